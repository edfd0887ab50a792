#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <meristem/io/csv.hpp>
#include <support/check.hpp>

namespace io_csv_test {

namespace ms = meristem;
using ms::io::CsvOptions;
using support::contains;
using support::message_of;

namespace {

/// A file of its own that is gone afterwards.
struct File {
  std::string path = (std::filesystem::temp_directory_path() / "meristem_test.csv").string();
  explicit File(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  ~File() { std::filesystem::remove(path); }
};

ms::data::SampleSet<double> read(const std::string& text, const CsvOptions& options = {}) {
  const File file(text);
  return ms::io::read_csv(file.path, options);
}

std::string refused(const std::string& text, const CsvOptions& options = {}) {
  return message_of<ms::DataError>([&] { (void)read(text, options); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("csv: columns become inputs, targets and labels, in the order that was asked for") {
  const std::string text =
      "id,age,\"price, in euros\",kind,area\n"
      "x1,20,1.5,0,-3e2\n"
      "\n"
      "x2,30,\"2.5\",2,+4\n";
  const auto set = read(text, {.targets = {"area", "price, in euros"}, .label = "kind", .ignored = {"id"}});
  CHECK(set.size() == 2);
  CHECK(set.input == ms::Shape{1});
  CHECK(set.inputs == std::vector<double>{20, 30});
  CHECK(set.target == ms::Shape{2});
  CHECK(set.targets == std::vector<double>{-300, 1.5, 4, 2.5});
  CHECK(set.labels == std::vector<std::int32_t>{0, 2});
}

TEST_CASE("csv: line ends of every system, a byte order mark, other delimiters, no line end at the end") {
  for (const char* end : {"\n", "\r\n", "\r"}) {
    CHECK(read(std::string("\xEF\xBB\xBF"
                           "a,b") +
                   end + "1,2" + end + "3,4",
               {.targets = {"a"}})
              .targets == std::vector<double>{1, 3});
  }
  CHECK(read("a;b\n1;2\n", {.delimiter = ';'}).inputs == std::vector<double>{1, 2});
  CHECK(read("a\tb\n1\t2\n", {.delimiter = '\t'}).inputs == std::vector<double>{1, 2});
}

TEST_CASE("csv: what is wrong is said with row and column") {
  CHECK(contains(refused(""), "the file is empty"));
  CHECK(contains(refused("a,b\n"), "no row below"));
  CHECK(contains(refused("a,b\n1,2\n3\n"), "row 3 has 1 fields, the first row has 2"));
  CHECK(contains(refused("a,b\n1,n/a\n"), "row 2, column 'b': 'n/a' is not a number"));
  CHECK(contains(refused("a,b\n1,\n"), "row 2, column 'b': the field is empty"));
  CHECK(contains(refused("a,b\n1,2x\n"), "'2x' is not a number"));
  CHECK(contains(refused("a,b\n1,nan\n"), "nan is not finite"));
  CHECK(contains(refused("a,b\n1,1e999\n"), "'1e999' is not a number"));
  CHECK(contains(refused("a,b\n1,2\n", {.targets = {"c"}}), "there is no column 'c'; there are a, b"));
  CHECK(contains(refused("a,b\n1,2\n", {.targets = {"a"}, .label = "a"}), "'a' is given two meanings"));
  CHECK(contains(refused("a,b\n1,2\n", {.targets = {"a"}, .ignored = {"b"}}), "no column is left as an input"));
  CHECK(contains(refused("a,a\n1,2\n"), "two columns are called 'a'"));
  CHECK(contains(refused("a,b\n1,0.5\n", {.label = "b"}), "0.5 is no class number"));
  CHECK(contains(refused("a,b\n1,-1\n", {.label = "b"}), "-1 is no class number"));
  CHECK(contains(refused("a,b\n1,\"2\"x\n"), "row 2"));
  CHECK(contains(refused("a,b\n1,\"2\n"), "row 2"));
  CHECK_THROWS_AS((void)ms::io::read_csv("/nowhere/at/all.csv"), ms::IoError);
}

TEST_SUITE_END();

}  // namespace io_csv_test
