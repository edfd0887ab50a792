#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <meristem/io/file.hpp>
#include <meristem/io/json_text.hpp>
#include <meristem/io/npy.hpp>
#include <meristem/io/safetensors.hpp>
#include <support/check.hpp>

namespace io_files_test {

namespace {

namespace ms = meristem;
namespace fs = std::filesystem;
using support::contains;
using support::message_of;

/// A folder of its own, gone at the end.
struct Folder {
  fs::path path;
  explicit Folder(const std::string& name)
      : path(fs::temp_directory_path() / ("meristem_files_" + name + "_" + std::to_string(::getpid()))) {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path / name).string(); }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
};

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span<const char>(text));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

/// A safetensors file of this header, padded as given, and `data` bytes of zeros.
std::string safetensors_of(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text + header + std::string(data, '\0');
}

/// Empty if the file is taken.
std::string complaint(const std::string& file) {
  try {
    (void)ms::io::Safetensors::parse(bytes_of(file), "x.safetensors");
  } catch (const ms::DataError& error) {
    return error.message();
  }
  return "";
}

std::string npy_of(const std::string& header, std::size_t data, char major = 1) {
  std::string text("\x93NUMPY", 6);
  text += major;
  text += '\0';
  text += static_cast<char>(header.size() % 256);
  text += static_cast<char>(header.size() / 256);
  if (major > 1) text += std::string(2, '\0');
  return text + header + std::string(data, '\0');
}

template <class T>
std::string npy_complaint(const std::string& file) {
  return message_of<ms::DataError>([&] { (void)ms::io::parse_npy<T>(bytes_of(file), "x.npy"); });
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("file: a new file replaces the old one whole, and leaves nothing else") {
  const Folder folder("replace");
  const std::string path = folder / "a";
  meristem::io::write_file(path, "old");
  CHECK(content(path) == "old");
  {
    meristem::io::AtomicFile file(path);
    file.write("new content");
    CHECK(content(path) == "old");
    CHECK(content(path + ".part") == "new content");
    // Another program that wants to write the same file.
    const std::string message = message_of<meristem::IoError>([&] { meristem::io::AtomicFile second(path); });
    CHECK(contains(message, "another program is writing it now"));
    file.commit();
    CHECK_THROWS_AS(file.write("more"), meristem::IoError);
    CHECK_THROWS_AS(file.commit(), meristem::IoError);
  }
  CHECK(content(path) == "new content");
  { meristem::io::AtomicFile file(path); }
  CHECK(content(path) == "new content");
  CHECK(folder.files() == 1);
  // What a killed program left.
  std::ofstream(path + ".part") << "half of something much longer than the new content";
  meristem::io::write_file(path, "third");
  CHECK(content(path) == "third");
  CHECK(folder.files() == 1);
  // Through a link.
  std::filesystem::create_symlink("a", folder / "link");
  meristem::io::write_file(folder / "link", "fourth");
  CHECK(content(path) == "fourth");
  CHECK(std::filesystem::is_symlink(folder / "link"));
}

TEST_CASE("file: what cannot be written is said, and the old content stays") {
  const Folder folder("failing");
  const std::string path = folder / "a";
  meristem::io::write_file(path, "old");
  const auto attempt = [](const std::string& to) {
    return message_of<meristem::IoError>([&] { meristem::io::write_file(to, std::string(100'000, 'x')); });
  };
  const std::string missing = attempt(folder / "missing/a");
  CHECK(contains(missing, "missing/a: cannot be written: No such file or directory; make its folder first"));
  CHECK(contains(attempt(folder.path.string()), "is no regular file and cannot be replaced"));
  CHECK(contains(attempt("/dev/null"), "is no regular file and cannot be replaced"));
  if (::geteuid() != 0) {
    ::chmod(folder.path.c_str(), 0555);
    CHECK(contains(attempt(path), "cannot be written: Permission denied"));
    ::chmod(folder.path.c_str(), 0755);
  }
  // A limit on the size of files stands for a full disk: a part can be written, the rest cannot.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 5000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string full = attempt(path);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  ::signal(SIGXFSZ, handler);
  CHECK(contains(full, "a: cannot be written: File too large"));
  CHECK(content(path) == "old");
  CHECK(folder.files() == 1);

  CHECK(contains(message_of<meristem::IoError>([&] { (void)meristem::io::read_file(folder / "b"); }),
                 "b: cannot be opened: No such file or directory"));
  CHECK(contains(message_of<meristem::IoError>([&] { (void)meristem::io::read_file(folder.path.string()); }),
                 "is no regular file"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they end the program
  // A file with a hole that no memory can hold, where the file system takes one.
  std::error_code unable;
  meristem::io::write_file(folder / "hole", "");
  fs::resize_file(folder / "hole", std::uintmax_t{1} << 60, unable);
  if (!unable) {
    CHECK(contains(message_of<meristem::IoError>([&] { (void)meristem::io::read_file(folder / "hole"); }),
                   "hole: its 1152921504606846976 bytes do not fit into memory"));
  }
#endif
}

TEST_CASE("json_text: duplicates, depth and errors are found") {
  const auto parse = [](const std::string& text) { return meristem::io::parse_json(text, "x.json"); };
  const auto complaint = [&](const std::string& text) {
    return message_of<meristem::DataError>([&] { (void)parse(text); });
  };
  const std::string text = R"({"a":[1,-2,0.1,"é\n",null,true,{"b":[]}],"c":{"a":18446744073709551615}})";
  CHECK(parse(text).dump() == text);
  CHECK(parse(text) == nlohmann::json::parse(text));
  CHECK(contains(complaint(R"({"a":{"b":1,"c":2,"b":3}})"), "x.json: has the name \"b\" twice in one object"));
  CHECK(parse(R"([{"a":1},{"a":2}])").size() == 2);
  CHECK(contains(complaint(std::string(300, '[')), "nested more than 200 deep"));
  CHECK(parse(std::string(200, '[') + std::string(200, ']')).is_array());
  for (const char* bad : {"", "{", "[1,]", "{\"a\":}", "nul", "1 2", "\"\xff\"", "1e999"}) {
    CHECK(contains(complaint(bad), "x.json: is no JSON at byte"));
  }
  CHECK(contains(complaint(std::string("{}\0", 3)), "x.json: is no JSON at byte 3 (a zero byte)"));
  // What is quoted of the text is UTF-8 whatever it was.
  CHECK(ms::is_utf8(complaint("\"a\xff\"")));
  CHECK_THROWS_AS((void)meristem::io::json_text(meristem::io::Json("\xff"), "x"), meristem::ArgumentError);
}

TEST_CASE("safetensors: what is written is read, aligned and with its metadata") {
  const Folder folder("safetensors");
  meristem::Context ctx;
  const std::string path = folder / "a.safetensors";
  meristem::io::Safetensors file;
  const std::vector<float> numbers = {1.5f, -2.0f, 3.25f, 0.0f, -0.0f, 1e-40f};
  file.add<float>(ctx, "b.weight", meristem::from_host<float>(ctx, {2, 3}, numbers).view());
  const std::vector<double> doubles = {1e300};
  const auto tensor = meristem::from_host<double>(ctx, {}, doubles);
  file.add<double>(ctx, "z", tensor.view());
  file.add<std::uint8_t>("a \"quoted\" é", {3}, std::vector<std::byte>(3, std::byte{7}));
  file.add<float>("empty", {4, 0}, {});
  file.metadata()["history"] = "{\"a\": 1}\nline";
  const std::uint64_t sum = file.checksum();
  file.write(path);

  const std::string raw = content(path);
  std::uint64_t length = 0;
  std::memcpy(&length, raw.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(raw.size() == 8 + length + 8 + 24 + 3);
  CHECK(raw[8] == '{');
  const meristem::io::Json header = meristem::io::Json::parse(raw.substr(8, length));
  CHECK(header["z"] ==
        meristem::io::Json{{"dtype", "F64"}, {"shape", meristem::io::Json::array()}, {"data_offsets", {0, 8}}});
  CHECK(header["b.weight"]["data_offsets"] == meristem::io::Json{8, 32});

  const meristem::io::Safetensors back = meristem::io::Safetensors::read(path);
  CHECK(back.checksum() == sum);
  CHECK(back.tensors().size() == 4);
  CHECK(back.metadata("history") == "{\"a\": 1}\nline");
  support::check_same_bits(meristem::to_host(ctx, back.tensor<float>(ctx, "b.weight")), numbers);
  CHECK(back.tensor<double>(ctx, "z").shape() == meristem::Shape());
  CHECK(meristem::to_host(ctx, back.tensor<double>(ctx, "z")) == doubles);
  CHECK(back.tensor<float>(ctx, "empty").shape() == meristem::Shape({4, 0}));

  const auto complaint = [&](auto&& use) { return message_of<meristem::DataError>(use); };
  CHECK(contains(complaint([&] { (void)back.at<double>("b.weight"); }), "tensor 'b.weight' has dtype F32; F64"));
  CHECK(contains(complaint([&] {
                   (void)back.at<float>("b.weight", {3, 2});
                 }),
                 "a.safetensors: tensor 'b.weight' has shape (2, 3); (3, 2) is expected"));
  CHECK(contains(complaint([&] { (void)back.at("c"); }), "there is no tensor 'c'"));
  CHECK(contains(complaint([&] { (void)back.metadata("c"); }), "no entry 'c'"));
  CHECK_THROWS_AS(file.add<float>("empty", {0}, {}), meristem::ArgumentError);
  CHECK_THROWS_AS(file.add<float>("__metadata__", {0}, {}), meristem::ArgumentError);
  CHECK_THROWS_AS(file.add<float>("short", {2}, std::vector<std::byte>(7)), meristem::ShapeError);
  // 2^62 elements of four bytes would wrap around to none.
  CHECK_THROWS_AS(file.add<float>("wrapped", {std::int64_t{1} << 62}, {}), meristem::ShapeError);
  file.metadata()["bad"] = "\xff";
  CHECK_THROWS_AS(file.write(path), meristem::ArgumentError);
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: the checksum changes with any byte, name, shape and string") {
  const auto sum = [](const std::string& name, const meristem::Shape& shape, std::size_t flip,
                      const std::string& note) {
    meristem::io::Safetensors file;
    std::vector<std::byte> bytes(24);
    if (flip < 24 * 8) bytes[flip / 8] ^= std::byte{1} << (flip % 8);
    file.add<float>(name, shape, std::move(bytes));
    file.metadata()["note"] = note;
    file.metadata()["checksum"] = note + name;
    return file.checksum("checksum");
  };
  std::vector<std::uint64_t> sums = {sum("a", {2, 3}, 999, "n"), sum("b", {2, 3}, 999, "n"), sum("a", {3, 2}, 999, "n"),
                                     sum("a", {6}, 999, "n"), sum("a", {2, 3}, 999, "m")};
  for (std::size_t bit = 0; bit < 24 * 8; ++bit) sums.push_back(sum("a", {2, 3}, bit, "n"));
  for (std::size_t i = 0; i < sums.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) REQUIRE(sums[i] != sums[j]);
  }
}

TEST_CASE("safetensors: damaged files are refused, with file and tensor") {
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return meristem::concat(R"({"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)", offsets, "}");
  };
  const auto one = [&](const char* dtype, const char* shape, const char* offsets, std::size_t data) {
    return complaint(safetensors_of(R"({"w":)" + entry(dtype, shape, offsets) + "}", data));
  };
  const auto two = [&](const char* a, const char* b, std::size_t data) {
    return complaint(
        safetensors_of(R"({"a":)" + entry("U8", "[4]", a) + R"(,"b":)" + entry("U8", "[4]", b) + "}", data));
  };
  CHECK(one("F32", "[2]", "[0,8]", 8).empty());
  CHECK(two("[4,8]", "[0,4]", 8).empty());
  struct Case {
    std::string message, words;
  };
  const std::vector<Case> cases = {
      {complaint("short"), "x.safetensors: has 5 bytes"},
      {complaint(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10)),
       "the header would be 9223372036854775807 bytes"},
      {complaint(std::string("\x09\0\0\0\0\0\0\0{}", 10)), "more than the file has"},
      {complaint(safetensors_of(" {}", 0)), "does not start with {"},
      {complaint(safetensors_of("", 0)), "does not start with {"},
      {complaint(safetensors_of("{]", 0)), "x.safetensors: the header: is no JSON at byte 2"},
      {complaint(safetensors_of(R"({"w":1})", 0)), "tensor 'w' must have dtype, shape and data_offsets"},
      {complaint(safetensors_of(R"({"w":{"dtype":"F32","shape":[1]}})", 4)), "tensor 'w' must have dtype"},
      {complaint(
           safetensors_of("{\"w\":" + entry("U8", "[1]", "[0,1]") + ",\"w\":" + entry("U8", "[1]", "[0,1]") + "}", 1)),
       "has the name \"w\" twice"},
      {complaint(safetensors_of(R"({"__metadata__":[]})", 0)), "__metadata__ is no object"},
      {complaint(safetensors_of(R"({"__metadata__":{"a":1}})", 0)), "entry 'a' is no string"},
      {one("F31", "[2]", "[0,8]", 8), "tensor 'w' has dtype 'F31', which is none of the types"},
      {one("F4", "[2]", "[0,1]", 1), "tensor 'w' has dtype 'F4', which is none of the types of whole bytes"},
      {one("C64", "[2]", "[0,16]", 16), ""},
      {one("F8_E4M3FNUZ", "[2]", "[0,2]", 2), ""},
      {complaint(safetensors_of(R"({"__metadata__":null})", 0)), ""},
      {one("F32", "[-2]", "[0,8]", 8), "tensor 'w': shape has an entry"},
      {one("F32", "[2.0]", "[0,8]", 8), "tensor 'w': shape has an entry"},
      {one("F32", "2", "[0,8]", 8), "tensor 'w': shape is no list"},
      {one("F32", "[3]", "[0,8]", 8), "tensor 'w' of dtype F32 and shape (3) cannot take the 8 bytes"},
      {one("F32", "[4611686018427387904,4]", "[0,0]", 0), "cannot take the 0 bytes"},
      {one("F32", "[9223372036854775807,2,0]", "[0,0]", 0), ""},
      {one("F32", "[2]", "[0,8]", 4), "tensor 'w': data_offsets 0 to 8 are out of range; the file has 4 bytes"},
      {one("F32", "[2]", "[8,0]", 8), "are out of range"},
      {one("F32", "[2]", "[0,18446744073709551615]", 8), "must be two whole numbers"},
      {one("F32", "[2]", "[-8,0]", 8), "must be two whole numbers"},
      {one("F32", "[2]", "[0,8]", 9), "1 bytes at its end belong to no tensor"},
      {one("F32", "[2]", "[4,12]", 12), "tensor 'w' starts behind a hole at byte 4"},
      {two("[0,4]", "[2,6]", 6), "tensor 'b' overlaps the one before it at byte 2"},
      {two("[0,4]", "[0,4]", 4), "overlaps the one before it"},
      {two("[0,4]", "[5,9]", 9), "tensor 'b' starts behind a hole"}};
  for (const Case& one_case : cases) {
    CAPTURE(one_case.words);
    CHECK(contains(one_case.message, one_case.words));
    CHECK(one_case.message.empty() == one_case.words.empty());
  }
}

TEST_CASE("npy: arrays come back, from all three versions") {
  const Folder folder("npy");
  meristem::Context ctx;
  const std::string path = folder / "a.npy";
  const auto round_trip = [&]<class T>(const meristem::Shape& shape, const std::vector<T>& values) {
    meristem::io::write_npy<T>(path, shape, std::span<const T>(values));
    CHECK(content(path).find('\n') % 64 == 63);
    const meristem::io::NpyArray<T> back = meristem::io::read_npy<T>(path);
    CHECK(back.shape == shape);
    CHECK(back.values == values);
  };
  round_trip(meristem::Shape{2, 3}, std::vector<float>{1, 2, 3, 4, 5, -6.5f});
  round_trip(meristem::Shape{1, 1, 2, 1, 1}, std::vector<double>{1e-300, 2});
  round_trip(meristem::Shape{3}, std::vector<std::int32_t>{-1, 2, 3});
  round_trip(meristem::Shape{}, std::vector<std::int64_t>{std::int64_t{1} << 60});
  round_trip(meristem::Shape{0, 7}, std::vector<std::uint8_t>{});
  const auto tensor = meristem::from_host<float>(ctx, {2, 2}, std::vector<float>{1, 2, 3, 4});
  meristem::io::write_npy<float>(path, ctx, tensor.view());
  const auto back = meristem::io::read_npy<float>(ctx, path);
  CHECK(back.shape() == meristem::Shape{2, 2});
  CHECK(meristem::to_host(ctx, back) == meristem::to_host(ctx, tensor));
  CHECK_THROWS_AS(meristem::io::write_npy<float>(path, {3}, std::vector<float>{1, 2}), meristem::ShapeError);
  for (const char version : {'\1', '\2', '\3'}) {
    // Other orders of the keys, quotes and blanks are Python too.
    const std::string file = npy_of("{ \"shape\":(2 ,),'fortran_order' :True,'descr':'<f8'}\n", 16, version);
    CHECK(meristem::io::parse_npy<double>(bytes_of(file), "x.npy").shape == meristem::Shape{2});
  }
}

TEST_CASE("npy: what Python 2 wrote, and other words for the same types, are read") {
  const auto values = [](const std::string& shape, const std::string& descr) {
    std::string file = npy_of("{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }\n", 24);
    const float numbers[] = {0, 1, 2, 3, 4, 5};
    std::memcpy(file.data() + file.size() - sizeof(numbers), numbers, sizeof(numbers));
    return meristem::io::parse_npy<float>(bytes_of(file), "x.npy");
  };
  const std::vector<float> wanted = {0, 1, 2, 3, 4, 5};
  // NumPy under Python 2 on 64-bit Windows.
  CHECK(values("(2L, 3L)", "'<f4'").shape == meristem::Shape{2, 3});
  CHECK(values("(2L, 3L)", "'<f4'").values == wanted);
  CHECK(values("(6L,)", "'<f4'").shape == meristem::Shape{6});
  for (const char* descr : {"'f4'", "'=f4'", "'|f4'", "'float32'", "u'<f4'", "\"<f4\"", "'f'"}) {
    CAPTURE(descr);
    CHECK(values("(6,)", descr).values == wanted);
  }
  const auto byte = [](const std::string& descr) {
    return meristem::io::parse_npy<std::uint8_t>(
               bytes_of(npy_of("{'descr': " + descr + ", 'fortran_order': False, 'shape': (1,)}", 1)), "x.npy")
        .values;
  };
  for (const char* descr : {"'|u1'", "'<u1'", "'>u1'", "'u1'", "'uint8'", "'B'"}) CHECK(byte(descr).size() == 1);
}

TEST_CASE("npy: other files are refused, with what was found and what is taken") {
  const auto header = [](const std::string& descr, const std::string& order, const std::string& shape) {
    return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
  };
  struct Case {
    std::string message, words;
  };
  const std::vector<Case> cases = {
      {npy_complaint<float>("PK\3\4 and so on"), "x.npy: is no .npy file"},
      {npy_complaint<float>(""), "is no .npy file"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)"), 8, 4)),
       "is of .npy version 4.0; 1.0, 2.0 and 3.0"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)"), 8).substr(0, 40)), "more than the file has"},
      {npy_complaint<float>(npy_of("", 0).substr(0, 9)), "is no .npy file"},
      {npy_complaint<float>(npy_of("", 0, 2).substr(0, 11)), "it is truncated"},
      {npy_complaint<float>(npy_of(header("'<f8'", "False", "(2,)"), 16)), "its elements are '<f8'; '<f4' (float32"},
      {npy_complaint<double>(npy_of(header("'>f8'", "False", "(2,)"), 16)), "its elements are '>f8'; '<f8'"},
      {npy_complaint<float>(npy_of(header("[('a', '<f4')]", "False", "(2,)"), 8)), "structures"},
      {npy_complaint<float>(npy_of(header("'<f4'", "True", "(2, 1)"), 8)), "Fortran order; C order is expected"},
      {npy_complaint<float>(npy_of(header("'<f4'", "Maybe", "(2,)"), 8)), "neither True nor False"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(3,)"), 8)),
       "shape (3) of '<f4' does not take the 8 bytes"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)"), 7)), "does not take the 7 bytes"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)"), 9)),
       "x.npy: 1 bytes follow the array of shape (2) of '<f4'; give each array a file of its own"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)"), 20)), "12 bytes follow the array"},
      {npy_complaint<float>(npy_of(header("'>f4'", "False", "(2,)"), 8)), "its elements are '>f4'; '<f4' (float32"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2)"), 8)), "its shape is a number, not a tuple"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "[2]"), 8)), "its shape is a list, not a tuple"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(02,)"), 8)), "an extent of the shape"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2 3)"), 24)), "',' is expected before '3)"},
      {npy_complaint<float>(npy_of(header("'<\nf4'", "False", "(2,)"), 8)), "has characters that no name"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(-2,)"), 8)), "an extent of the shape"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(99999999999999999999,)"), 8)), "an extent of the shape"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(4611686018427387904, 4)"), 0)), "exceeds 2^63"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(1, 1, 1, 1, 1, 2)"), 8)), "more than 5 axes"},
      {npy_complaint<float>(npy_of("{'descr': '<f4', 'shape': (2,)}", 8)), "is missing"},
      {npy_complaint<float>(npy_of("{'descr': '<f4', 'descr': '<f4'}", 8)), "twice"},
      {npy_complaint<float>(npy_of("{'descr': '<f4", 8)), "a string does not end"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)") + "more", 8)), "follows the closing brace"},
      {npy_complaint<float>(npy_of(header("'<f4'", "False", "(2,)") + std::string("\0\n", 2), 8)),
       "follows the closing brace"},
      {npy_complaint<float>(npy_of("{", 0)), "a string is expected"}};
  for (const Case& one_case : cases) {
    CAPTURE(one_case.words);
    CHECK(contains(one_case.message, one_case.words));
  }
}

TEST_SUITE_END();

}  // namespace io_files_test
