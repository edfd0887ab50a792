// Wrong usage of the main program: whatever is wrong, it ends before anything is done, with nothing on standard output,
// no file made or changed, and a sentence that has the name of the option or file and what to do.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "program.hpp"

using program::contains;
using program::Folder;
using program::Outcome;

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

/// What is given, and what the sentence has to have: the name of what is wrong, then what to do.
struct Wrong {
  Words arguments;
  int exit_code = 2;
  std::string name, remedy;
};

/// The words between blanks.
Words words(const std::string& line) {
  std::istringstream stream(line);
  Words result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

/// `option` with each of `values`.
void add_values(std::vector<Wrong>& all, const std::string& option, const Words& values, const std::string& accepted) {
  for (const std::string& value : values) {
    all.push_back({{option, value}, 2, option + ": got '" + value + "'", "; give " + accepted + "\n"});
  }
}

std::vector<Wrong> wrong_values() {
  std::vector<Wrong> all;
  const auto whole = [&](const std::string& option, const Words& values, const std::string& least,
                         const std::string& most) {
    add_values(all, option, values, "a whole number from " + least + " to " + most);
  };
  whole("--epochs", {"-1", "x", "1.5", "", "nan", "99999999999999999999", "0", "1000001", "3x", " 3", "0x3"}, "1",
        "1000000");
  whole("--images", {"-5", "many", "1e3"}, "0", "1000000000");
  whole("--batch", {"0", "-128", "inf"}, "1", "1000000");
  whole("--channels", {"0", "-16", "4097", "1/16", ""}, "1", "4096");
  add_values(all, "--grow-after", {"0", "-1", "never", "", "4,", "4,2", "3-2", "2,2", "1-", "1.5", "1000001"},
             "epochs in ascending order, such as 4,6 or 1-20");
  add_values(all, "--units", {"0", "-8", "65537", "half", "0.5", "3/2", "1/0", "/2", "1/", "1/2/4"},
             "a whole number from 1 to 65536, or a share of the channels that the next layer puts out, such as 1/4");
  whole("--hold", {"0", "-1", "1.5"}, "1", "1000000");
  whole("--statistics-samples", {"0", "all"}, "1", "1000000000");
  whole("--search-samples", {"0", "-1"}, "1", "1000000000");
  whole("--max-parameters", {"-1", "1M"}, "0", "1000000000000");
  whole("--image-size", {"7", "513", "32x32", "", "-32", "0"}, "8", "512");
  whole("--seed", {"-1", "abc", "1e3", "18446744073709551616"}, "0", "18446744073709551615");

  const auto number = [&](const std::string& option, const Words& values, const std::string& most) {
    add_values(all, option, values, "a number from 0 to " + most);
  };
  number("--learning-rate", {"-1", "nan", "-nan", "inf", "-inf", "1e400", "", "x", "0.1x", "0,1"}, "1000000");
  number("--momentum", {"2", "nan", "inf", "-0.1"}, "1");
  number("--weight-decay", {"-1", "nan", "inf"}, "1000000");
  number("--label-smoothing", {"1.5", "1", "nan", "-0.1"}, "0.99");
  number("--significance", {"nan", "inf", "-1"}, "1000");
  number("--damping", {"nan", "-1e-3", "inf"}, "1000000");

  add_values(all, "--width",
             {"0", "3/2", "1.5", "-1/16", "1/0", "0/16", "1/", "/16", "1/16/2", "1 /16", "", "x", "nan", "1/nan", "inf",
              "1e-400"},
             "a share above 0 and up to 1, such as 1/16 or 0.25");
  add_values(all, "--hidden", {"8,0", "", "8,x", "8,", ",8", "8,,8", "8, 8", "[8,8]", "-8", "8,65537", "8;8", "nan"},
             "widths from 1 to 65536, only commas between");

  add_values(all, "--model", {"resnet", "", "VGG", "resnet18 "}, "one of resnet18, resnet18-strided, vgg, mlp");
  add_values(all, "--activation", {"softmax", "ReLU"}, "one of relu, gelu, silu, tanh, selu, identity");
  add_values(all, "--method", {"gradmin", "", "TINY"},
             "one of tiny, tiny-eigen, tiny-joint, tiny-fisher, gradmax, random, random-kaiming, random-fan-out, nest, "
             "net2wider, paired, north, senn, firefly, none");
  add_values(all, "--grow", {"widths", "hidden,all-widths", ""}, "one of hidden, all-widths, depth, all");
  add_values(all, "--max-operations", {"-1", "1P", "nan", "1e25"}, "a number from 0 to 1e+24");
  add_values(all, "--grow-where", {"nowhere", "all,best"},
             "one of all, together, best, best-per-parameter, best-per-operation, round-robin");
  add_values(all, "--fan-out", {"center", ""}, "one of full, centre");
  add_values(all, "--grow-layers", {"", ",", "conv1,", ",conv1", "conv1,,conv2", "conv1,conv2,conv1"},
             "names of layers such as stage1.block1.conv1, each once, only commas between");
  add_values(all, "--optimizer", {"adam", "SGD"}, "one of sgd, adamw");
  add_values(all, "--schedule", {"linear"}, "one of hold-cosine, cosine, constant");
  add_values(all, "--data", {""}, "the name of a folder");
  add_values(all, "--report", {""}, "the name of a folder");
  add_values(all, "--checkpoint", {""}, "the name of a file");
  add_values(all, "--resume", {""}, "the name of a file");
  return all;
}

std::vector<Wrong> wrong_words() {
  const std::string help = "Run cifar10 --help for the options.\n";
  return {
      {{"--epochs"}, 2, "--epochs: no value was given", "give a whole number from 1 to 1000000"},
      {words("--seed 3 --hidden"), 2, "--hidden: no value was given", "give widths from 1 to 65536, only commas"},
      {words("--epochs --seed 3"), 2, "--epochs: got '--seed'", "give a whole number from 1 to 1000000"},
      {{"--learning-rate"}, 2, "--learning-rate: no value was given", "give a number from 0 to 1000000"},
      {{"--method"}, 2, "--method: no value was given", "give one of tiny, "},
      {{"--data"}, 2, "--data: no value was given", "give the name of a folder"},
      {{"--report"}, 2, "--report: no value was given", "give the name of a folder"},
      {{"--checkpoint"}, 2, "--checkpoint: no value was given", "give the name of a file"},
      {{"--resume"}, 2, "--resume: no value was given", "give the name of a file"},
      {{"--epochs="}, 2, "--epochs", "give a whole number from 1 to 1000000"},
      {words("--epochs 3 --epochs x"), 2, "--epochs: got 'x'", "give a whole number from 1 to 1000000"},
      {words("--device --epochs x"), 2, "--epochs: got 'x'", "give a whole number from 1 to 1000000"},
      {words("--dampng 0"), 2, "there is no option --dampng", "did you mean --damping?"},
      {words("--Seed 0"), 2, "there is no option --Seed", "did you mean --seed?"},
      {words("-epochs 3"), 2, "there is no option -epochs", "did you mean --epochs?"},
      {words("--epoch 3"), 2, "there is no option --epoch", "did you mean --epochs?"},
      {words("--lerning-rate=0.1"), 2, "there is no option --lerning-rate=0.1", "did you mean --learning-rate?"},
      {words("--grow_after 2"), 2, "there is no option --grow_after", "did you mean --grow-after?"},
      {words("--optimiser sgd"), 2, "there is no option --optimiser", "did you mean --optimizer?"},
      {words("--chekpoint x"), 2, "there is no option --chekpoint", "did you mean --checkpoint?"},
      {{"--no-augment"}, 2, "there is no option --no-augment", "--augment is off unless it is given: leave it out"},
      // From other programs.
      {words("--batch-size 64"), 2, "there is no option --batch-size; did you mean --batch?", help},
      {words("--batch_size 64"), 2, "there is no option --batch_size; did you mean --batch?", help},
      {words("-b 64"), 2, "there is no option -b; did you mean --batch?", help},
      {words("--lr 0.1"), 2, "there is no option --lr; did you mean --learning-rate?", help},
      {words("-lr=0.1"), 2, "there is no option -lr=0.1; did you mean --learning-rate?", help},
      {words("--wd 0"), 2, "there is no option --wd; did you mean --weight-decay?", help},
      {words("--weight_decay 0"), 2, "there is no option --weight_decay; did you mean --weight-decay?", help},
      {words("--arch resnet18"), 2, "there is no option --arch; did you mean --model?", help},
      {words("--lr-scheduler cosine"), 2, "there is no option --lr-scheduler; did you mean --schedule?", help},
      {words("--num_epochs 3"), 2, "there is no option --num_epochs; did you mean --epochs?", help},
      {words("--data-dir data"), 2, "there is no option --data-dir; did you mean --data?", help},
      {words("--save x"), 2, "there is no option --save; did you mean --checkpoint?", help},
      {words("--output x"), 2, "there is no option --output; did you mean --checkpoint?", help},
      {words("--load x"), 2, "there is no option --load; did you mean --resume?", help},
      {words("--label 0.1"), 2, "there is no option --label; did you mean --label-smoothing?", help},
      {words("--workers 4"), 2, "there is no option --workers; pictures are read before", "OMP_NUM_THREADS=N"},
      {words("-j 4"), 2, "there is no option -j; pictures are read before", "leave it out"},
      {words("--dropout 0.5"), 2, "there is no option --dropout; the networks here have no dropout", "leave it out"},
      {words("--gpu 0"), 2, "there is no option --gpu; the program cifar10_cuda runs on the GPU", "start that"},
      {words("--num-classes 10"), 2, "there is no option --num-classes; the data says", "leave it out"},
      {{"--evaluate"}, 2, "there is no option --evaluate; every epoch is tested", "cifar10 classify MODEL IMAGE..."},
      {words("train --data data"), 2, "training needs no word", "leave 'train' out"},
      {words("eval --data data"), 2, "there is no command 'eval'", "cifar10 classify MODEL IMAGE..."},
      {{"-x"}, 2, "there is no option -x", help},
      {{"--batches-per-second"}, 2, "there is no option --batches-per-second", help},
      {{"tiny"}, 2, "'tiny' belongs to no option", "leave it out, or give the name of its option before it"},
      {words("--hidden 8,8 9"), 2, "'9' belongs to no option", "leave it out"},
      {words("epochs=3"), 2, "'epochs=3' belongs to no option", "give the name of its option before it"},
      {{"--device=yes please"}, 2, "--device takes no value", "leave out what follows the ="},
      {{"--augment=some"}, 2, "--augment takes no value", "leave out what follows the ="},
      {{"--json=lines"}, 2, "--json takes no value", "leave out what follows the ="},
      {words("--seed 1 classify"), 2, "classify comes first", "cifar10 classify MODEL IMAGE..."},
      // Each right by itself.
      {words("--hidden 8,8"), 2, "--hidden: resnet18 has eight blocks", "give a width for each, or --width for all"},
      {words("--model resnet18-strided --hidden 8"), 2, "--hidden: resnet18-strided", "give a width for each"},
      {words("--hidden 8,8 --model vgg"), 2, "--hidden does not belong to --model vgg",
       "give its widths by --width and --channels"},
      {words("--hidden 1,1,1,1,1,1,1,1 --width 1/2"), 2, "--hidden and --width both", "give one of them"},
      {words("--model vgg --activation tanh"), 2, "--activation belongs to --model mlp", "leave it out"},
      {words("--activation tanh"), 2, "--activation belongs to --model mlp; resnet18 has relu", "leave it out"},
      {words("--width 1 --model mlp"), 2, "--width does not belong to --model mlp", "give its widths by --hidden"},
      {words("--channels 16 --model mlp"), 2, "--channels does not belong to --model mlp",
       "give its widths by --hidden"},
      {words("--hold 3 --schedule cosine"), 2, "--hold does not belong to --schedule cosine", "leave one of them out"},
      {words("--hold 10"), 2, "--hold 10 leaves no epoch of 10", "give less, or --schedule constant"},
      {words("--fan-out centre --model mlp"), 2, "--fan-out does not belong to --model mlp", "leave it out"},
      {words("--optimizer adamw --momentum 0.5"), 2, "--momentum belongs to --optimizer sgd, not adamw",
       "leave it out"},
      {{"--auto"}, 2, "--auto needs --max-operations", "such as 1e15"},
      {words("--auto --max-operations 1e12 --model mlp"), 2, "--auto grows a resnet18", "leave --model out"},
      {words("--auto --max-operations 1e12 --channels 8"), 2, "--auto chooses what --channels gives",
       "leave one of them out"},
      {words("--auto --max-operations 1e12 --grow depth"), 2, "--auto chooses what --grow gives",
       "leave one of them out"},
      {words("--auto --max-operations 1e12 --method none"), 2, "--method none does not", "give a method"},
      {words("--auto --max-operations 1e12 --method paired"), 2, "--method paired does not measure", "take tiny, "},
      {words("--auto --max-operations 1e6 --data data"), 2, "--max-operations: 1e+06 are not enough",
       "give more of them, or fewer --epochs or --images"},
      {words("--max-operations 1e12"), 2, "--max-operations belongs to --auto", "give that too"},
      {words("--grow depth --method none"), 2, "--grow depth needs a method", "leave --method none out"},
      {words("--grow all --grow-layers stage1.block1.conv1"), 2, "--grow-layers names layers that are there",
       "give one of them"},
      {words("--image-size 64 --data data"), 2, "--image-size belongs to --data with a folder of JPEG and PNG files",
       "leave it out"},
      {words("--image-size 64"), 2, "--image-size belongs to --data with a folder", "leave it out"},
      {words("--data data --model mlp --max-parameters 100"), 2, "--max-parameters: 100 leaves no room to grow",
       "give at least "},
      {words("--data data --model mlp --grow-layers layer7"), 2, "--grow-layers: there is no layer 'layer7'",
       "the layers that can grow are layer1, layer2\n"},
      {words("--data data --model mlp --grow-layers layer3"), 2, "--grow-layers: layer3 cannot grow",
       "the layers that can grow are layer1, layer2\n"},
      {words("--data data --model vgg --channels 2 --grow-layers norm1"), 2, "--grow-layers: norm1 cannot grow",
       "the layers that can grow are conv1, conv2"},
      {words("--data data --channels 2 --grow-layers stem.conv"), 2, "--grow-layers: stem.conv cannot grow alone",
       "the layers that can grow are stage1.block1.conv1"},
  };
}

std::vector<Wrong> wrong_data() {
  const std::string download = "download the binary version (cifar-10-binary.tar.gz) from https://www.cs.toronto.edu";
  std::vector<Wrong> all;
  const auto add = [&](const std::string& folder, const std::string& name, const std::string& remedy) {
    all.push_back({words("--model mlp --data " + folder), 1, name, remedy});
  };
  add("absent", "absent: no such file or folder", download);
  add("data/test_batch.bin", "data/test_batch.bin: is one file of a data set", "--data data\n");
  add("text", "text: is a file, not a folder", "give the folder that holds its .bin files");
  add("pictures/a/1.png", "pictures/a/1.png: is a single picture", "give a folder that holds a folder of pictures");
  add("data/test_batch.bin/x", "data/test_batch.bin/x: ", download);
  add("empty", "empty: the folder is empty", download);
  add("parquet", "parquet: the folder holds only files that are not read (1 .json, 2 .parquet)", download);
  add("no_third", "no_third/data_batch_3.bin: no such file or folder", download);
  add("no_test", "no_test/test_batch.bin: no such file or folder", download);
  add("folder_test", "folder_test/test_batch.bin: not a file", download);
  add("fifo_test", "fifo_test/test_batch.bin: not a file", download);
  add("short", "short/data_batch_3.bin: truncated, or not the binary version of CIFAR-10: 6246 bytes", download);
  add("one_byte", "one_byte/data_batch_1.bin: truncated", download);
  add("no_bytes", "no_bytes/data_batch_3.bin: the file is empty", download);
  add("label", "label/data_batch_3.bin: record 0 has label 10", download);
  add("test_label", "test_label/test_batch.bin: record 0 has label 200", download);
  add("cifar100", "cifar100/test.bin: no such file or folder", "cifar-100-binary.tar.gz");
  add("python", "python: holds CIFAR-10 as pickled for Python, which is not read", download);
  add("python100", "python100: holds CIFAR-100 as pickled for Python, which is not read", download);
  add("matlab", "matlab: holds CIFAR-10 for Matlab, which is not read", download);
  add("above_python", "above_python: its folder cifar-10-batches-py holds CIFAR-10 as pickled for Python", download);
  add("downloads/cifar-10-binary.tar.gz", "downloads/cifar-10-binary.tar.gz: is an archive",
      "unpack it (tar -xf downloads/cifar-10-binary.tar.gz) and give the folder that comes out of it");
  add("downloads", "downloads: holds the archive cifar-10-binary.tar.gz", "unpack it (tar -xf downloads/");
  add("above", "above: CIFAR-10 is one folder further down", "give --data above/cifar-10-batches-bin");
  add("above_100", "above_100: CIFAR-100 is one folder further down", "give --data above_100/cifar-100-binary");
  add("loop", "loop: cannot be reached", "check the name and the rights");
  add(std::string(300, 'n'), ": cannot be reached: File name too long", "check the name and the rights");

  add("flat", "flat: its pictures have no classes", "put those of a class into a folder with the class's name");
  add("no_pictures", "no_pictures: 1 of 1 class folders has no JPEG or PNG file directly inside: a (empty)",
      "put pictures there, or move such folders elsewhere");
  add("other_endings",
      "other_endings: 2 of 4 class folders have no JPEG or PNG file directly inside: birds (6 .webp), fish (the folder "
      "2023); ",
      "put pictures there, or move such folders elsewhere");
  add("unreadable", "unreadable/a: no picture of this class can be read (1 file is left out); the first: ",
      "unreadable/a/text.png: neither JPEG nor PNG, whatever its name says; convert it to one of them");
  add("parts", "parts: its only folders are test1 and train, which are named as parts of a data set and not as classes",
      "put the pictures of each class into a folder of its own, parts/train/CLASS");
  add("no_labels", "no_labels: pictures of test lie in no folders of classes", "give no_labels/train, of which a part");
  add("above_pictures", "above_pictures: there is no picture in its folder pictures, but in folders of",
      "if a and b are classes, give above_pictures/pictures");
  add("pictures/a", "pictures/a: its pictures have no classes; if the folder is one of them", "--data pictures/\n");
  add("few", "pictures in few to test on: there is no image that can be read", "at least 6 in one of them");
  add("one_class", "one_class: 'a' is its only class", "put pictures of at least two into folders");
  add("other_class", "other_class/test/c: the class has no folder in other_class/train",
      "move it or add images to train on");
  add("no_tests", "no_tests/test: 1 of 1 class folders has no JPEG or PNG file directly inside: a (empty)",
      "put pictures there");
  all.push_back({words("--data pictures/a --image-size 16"), 1, "pictures/a: its pictures have no classes",
                 "give the one above it, --data pictures/\n"});
  // Whatever else is asked for.
  all.push_back({words("--data absent --json"), 1, "absent: no such file or folder", download});
  all.push_back(
      {words("--data absent --checkpoint not_made --report new/folder"), 1, "absent: no such file", download});
  return all;
}

std::vector<Wrong> wrong_places() {
  const std::string longest(300, 'n');
  std::vector<Wrong> all;
  // A name that no checkpoint can have is wrong usage; what the file system refuses is a failure, told just as early.
  const auto checkpoint = [&](const std::string& file, const std::string& name, const std::string& remedy,
                              int exit_code = 1) {
    all.push_back({words("--model mlp --data data --checkpoint " + file), exit_code, name, remedy});
  };
  checkpoint("saved", "--checkpoint saved: the file is there already", "go on from it by --resume saved", 2);
  checkpoint("text", "--checkpoint text: the file is there already", "choose another name, or remove it", 2);
  checkpoint("data", "--checkpoint data: is a folder", "give the name of a file in it", 2);
  checkpoint("absent/file", "--checkpoint: absent/file: cannot be written", "make its folder first");
  checkpoint("text/file", "--checkpoint: text/file: cannot be written", "choose a place that can be written to");
  checkpoint("/dev/full", "--checkpoint: /dev/full: is no regular file", "choose another name");
  checkpoint("/proc/file", "--checkpoint: /proc/file: cannot be written", "choose a place that can be written to");
  checkpoint("fifo", "--checkpoint: fifo: is no regular file", "choose another name");
  checkpoint("loop", "--checkpoint: loop: cannot be followed", "choose a place that can be written to");
  checkpoint("busy", "--checkpoint: busy: another program is writing it now", "wait for it or choose another name");
  checkpoint(longest, "--checkpoint: " + longest, "choose a place that can be written to");
  const auto report = [&](const std::string& folder, const std::string& name, const std::string& remedy) {
    all.push_back({words("--model mlp --data data --report " + folder), 1, name, remedy});
  };
  report("text", "--report text: the folder cannot be made", "choose another");
  report("text/page", "--report text/page: the folder cannot be made", "choose another");
  report("/proc/nowhere", "--report /proc/nowhere: the folder cannot be made", "choose another");
  report("loop", "--report loop: the folder cannot be made", "choose another");
  report("new/" + longest, "--report new/" + longest + ": the folder cannot be made", "choose another");
  report("page", "--report: page/report.html: is no regular file", "choose a folder that can be written to");
  report("busy_page", "--report: busy_page/report.html: another program is writing it now", "wait for it");
  return all;
}

std::vector<Wrong> wrong_checkpoints() {
  const std::string whole = "--resume takes a whole file that --checkpoint wrote";
  std::vector<Wrong> all;
  const auto file = [&](const std::string& name, const std::string& problem, const std::string& remedy) {
    all.push_back({words("--data data --resume " + name), 1, name + ": " + problem, remedy});
  };
  file("absent", "cannot be opened", "check the name and the rights");
  file("saved/x", "cannot be opened", "check the name and the rights");
  file("loop", "cannot be opened", "check the name and the rights");
  file("data", "is no regular file", "name a file");
  file("/dev/zero", "is no regular file", "name a file");
  file("fifo", "is no regular file", "name a file");
  file("no_bytes/data_batch_3.bin", "has 0 bytes", whole);
  file("text", "", whole);
  file("pictures/a/1.png", "", whole);
  file("data/test_batch.bin", "", whole);
  file("cut_7", "has 7 bytes", whole);
  file("cut_100", "the header would be", whole);
  file("cut_half", "", whole);
  file("cut_last", "", whole);
  file("longer", "1 bytes at its end belong to no tensor", whole);
  file("header_changed", "", "take another one");
  file("weights_changed", "its content does not match its checksum", "take another one");
  file("version", "has version 3 of the format", "use the meristem that wrote it");
  file("model.safetensors", "is no meristem-checkpoint file but meristem-model", whole);
  file("foreign.safetensors", "is no meristem-checkpoint file", whole);
  file("other_program", "was saved by another program", "give a file that --checkpoint wrote");
  all.push_back(
      {words("--resume saved --data other_data"), 1, "saved: was trained on other images", "give the same by --data"});
  all.push_back(
      {words("--resume saved --data absent"), 1, "absent: no such file or folder", "unpack it and name the folder"});
  all.push_back({words("--resume saved --data data --checkpoint text"), 2,
                 "--checkpoint text: the file is there already", "choose another name"});
  all.push_back({words("--resume saved --data data --report text"), 1, "--report text: ", "choose another"});
  // A run goes on with its own options.
  for (const auto& [option, value, was] :
       std::vector<std::array<std::string, 3>>{{"--batch", "10", "20"},
                                               {"--seed", "4", "3"},
                                               {"--epochs", "3", "1"},
                                               {"--model", "vgg", "mlp"},
                                               {"--hidden", "9,9", "1"},
                                               {"--learning-rate", "0.5", "0.02"},
                                               {"--optimizer", "adamw", "sgd"},
                                               {"--method", "tiny", "none"},
                                               {"--images", "50", "0"},
                                               {"--momentum", "0.5", "0.9"},
                                               {"--schedule", "constant", "hold-cosine"},
                                               {"--hold", "3", "its default"},
                                               {"--activation", "tanh", "relu"},
                                               {"--weight-decay", "0", "0.0005"},
                                               {"--label-smoothing", "0.1", "0"}}) {
    all.push_back({{"--resume", "saved", "--data", "data", option, value},
                   2,
                   option + " " + value + " contradicts saved, saved with " + was,
                   "leave " + option + " out, or start anew without --resume"});
  }
  all.push_back({words("--resume saved --data data --augment"), 2, "--augment contradicts saved, saved without it",
                 "leave --augment out, or start anew without --resume"});
  return all;
}

std::vector<Wrong> wrong_classify() {
  const std::string whole = "MODEL takes a whole file that --checkpoint wrote, or a model file";
  const std::string help = "Run cifar10 classify --help for the options.\n";
  std::vector<Wrong> all;
  const auto add = [&](const std::string& arguments, int exit_code, const std::string& name,
                       const std::string& remedy) {
    all.push_back({words("classify " + arguments), exit_code, name, remedy});
  };
  add("", 2, "MODEL is missing", "give a file that --checkpoint wrote, and pictures after it");
  add("saved", 2, "IMAGE is missing", "give JPEG or PNG files after MODEL, or --model-card");
  add("--json", 2, "MODEL is missing", "give a file that --checkpoint wrote");
  add("saved pictures/a/1.png --top 3", 2, "there is no option --top", "it has --model-card, --json and --help");
  add("saved --modelcard", 2, "there is no option --modelcard", "it has --model-card, --json and --help");
  add("saved -v pictures/a/1.png", 2, "there is no option -v", "it has --model-card, --json and --help");
  add("saved --epochs 3", 2, "there is no option --epochs", help);
  add("saved pictures/a/1.png --json=yes", 2, "--json takes no value", "leave out what follows the =");
  add("saved --model-card=1", 2, "--model-card takes no value", "leave out what follows the =");
  add("absent pictures/a/1.png", 1, "absent: cannot be opened", "check the name and the rights");
  add("data pictures/a/1.png", 1, "data: is no regular file", "name a file");
  add("pictures/a/1.png saved", 1, "pictures/a/1.png: ", whole);
  add("text pictures/a/1.png", 1, "text: ", whole);
  add("no_bytes/data_batch_3.bin pictures/a/1.png", 1, "has 0 bytes", whole);
  add("cut_half --model-card", 1, "cut_half: ", whole);
  add("weights_changed --model-card", 1, "weights_changed: its content does not match", "take another one");
  add("version --model-card", 1, "version: has version 3 of the format", "use the meristem that wrote it");
  add("foreign.safetensors --model-card", 1, "foreign.safetensors: ", whole);
  add("other_program --model-card", 1, "other_program: was saved by another program", whole);
  add("model.safetensors pictures/a/1.png", 1, "model.safetensors: does not say what images it reads",
      "save it with sample, class_names and normalization");
  add("saved absent.png", 1, "absent.png: no such file", "check the name");
  add("saved pictures", 1, "pictures: not a file", "give the name of a JPEG or PNG file");
  add("saved fifo", 1, "fifo: not a file", "give the name of a JPEG or PNG file");
  add("saved text", 1, "text: neither JPEG nor PNG, whatever its name says", "convert it to one of them");
  add("saved unreadable/a/text.png", 1, "unreadable/a/text.png: neither JPEG nor PNG", "convert it to one of them");
  add("saved picture.gif", 1, "picture.gif: neither JPEG nor PNG", "convert it to one of them");
  add("saved no_bytes/data_batch_3.bin", 1, "data_batch_3.bin: the file is empty", "copy it again or remove it");
  add("saved cut.png", 1, "cut.png: damaged PNG file", "copy it again or remove it");
  add("saved cut.jpg", 1, "cut.jpg: damaged JPEG file", "copy it again or remove it");
  add("saved huge.png", 1, "huge.png: its header promises 65535 x 65535 pixels", "make it smaller");
  add("saved text absent.png --json", 1, "absent.png: no such file", "check the name");
  return all;
}

std::vector<Wrong> wrong_export() {
  const std::string whole = "MODEL takes a whole file that --checkpoint wrote, or a model file";
  std::vector<Wrong> all;
  const auto add = [&](const std::string& arguments, int exit_code, const std::string& name,
                       const std::string& remedy) {
    all.push_back({words("export " + arguments), exit_code, name, remedy});
  };
  add("", 2, "MODEL is missing", "give a file that --checkpoint wrote, or a model file");
  add("--onnx new", 2, "MODEL is missing", "give a file that --checkpoint wrote, or a model file");
  add("saved", 2, "there is nothing to write", "give --safetensors FILE, --onnx FILE or both");
  add("saved --onnx", 2, "--onnx: no value was given", "give the name of a file");
  add("saved --safetensors", 2, "--safetensors: no value was given", "give the name of a file");
  add("saved --onnx=", 2, "--onnx", "give the name of a file");
  add("saved --safetensors new --layout torch", 2, "--layout: got 'torch'", "give one of pytorch, meristem");
  add("saved --safetensors new --layout", 2, "--layout: no value was given", "give one of pytorch, meristem");
  add("saved --onnx new --layout pytorch", 2, "--layout belongs to --safetensors", "leave it out");
  add("saved --onnx new --safetensors new", 2, "--safetensors and --onnx both name new", "give each a file of its own");
  add("saved new --onnx other", 2, "'new' is one argument too many", "give one MODEL");
  add("saved --tensors new", 2, "there is no option --tensors", "it has --safetensors, --layout, --onnx and --help");
  add("saved --onnx text", 2, "--onnx text: the file is there already", "choose another name, or remove it");
  add("saved --safetensors saved", 2, "--safetensors saved: the file is there already", "choose another name");
  add("saved --onnx data", 2, "--onnx data: is a folder", "give the name of a file in it");
  add("saved --onnx absent/file", 1, "--onnx: absent/file: cannot be written", "make its folder first");
  add("saved --onnx new --safetensors text/file", 1, "--safetensors: text/file: cannot be written", "choose a place");
  add("saved --onnx busy", 1, "--onnx: busy: another program is writing it now", "wait for it");
  add("absent --onnx new", 1, "absent: cannot be opened", "check the name and the rights");
  add("text --onnx new", 1, "text: ", whole);
  add("cut_half --safetensors new", 1, "cut_half: ", whole);
  add("weights_changed --onnx new", 1, "weights_changed: its content does not match", "take another one");
  add("version --onnx new", 1, "version: has version 3 of the format", "use the meristem that wrote it");
  add("model.safetensors --onnx new", 1, "model.safetensors: does not say what images it reads", "save it with sample");
  add("foreign.safetensors --onnx new", 1, "foreign.safetensors: ", whole);
  all.push_back({words("--seed 1 export"), 2, "export comes first", "cifar10 export MODEL"});
  return all;
}

void write(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

/// A PNG of one pixel.
std::string pixel() {
  const unsigned char bytes[] = {0x89, 'P',  'N',  'G',  0x0d, 0x0a, 0x1a, 0x0a, 0,    0,    0,    13,   'I',  'H',
                                 'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    2,    0,    0,
                                 0,    0x90, 0x77, 0x53, 0xde, 0,    0,    0,    12,   'I',  'D',  'A',  'T',  0x08,
                                 0xd7, 0x63, 0xf8, 0xcf, 0xc0, 0,    0,    0x03, 0x01, 0x01, 0,    0x18, 0xdd, 0x8d,
                                 0xb0, 0,    0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};
  return {bytes, bytes + sizeof bytes};
}

/// Everything that the tables above name.
class Fixture {
 public:
  Fixture() {
    const fs::path& root = folder_.path();
    for (const char* name : {"data", "no_third", "no_test", "folder_test", "fifo_test", "short", "one_byte", "no_bytes",
                             "label", "test_label", "other_data", "above/cifar-10-batches-bin"}) {
      program::write_cifar(root / name);
    }
    fs::create_directory(root / "empty");
    fs::remove(root / "no_third/data_batch_3.bin");
    for (const char* name : {"no_test", "folder_test", "fifo_test"}) fs::remove(root / name / "test_batch.bin");
    fs::create_directory(root / "folder_test/test_batch.bin");
    mkfifo((root / "fifo_test/test_batch.bin").c_str(), 0600);
    mkfifo((root / "fifo").c_str(), 0600);
    program::write_batch(root / "short/data_batch_3.bin", 2, -1, 100);
    write(root / "one_byte/data_batch_1.bin", "1");
    write(root / "no_bytes/data_batch_3.bin", "");
    program::write_batch(root / "label/data_batch_3.bin", 2, 10);
    program::write_batch(root / "test_label/test_batch.bin", 2, 200);
    program::write_batch(root / "other_data/data_batch_1.bin", 19);
    write(root / "cifar100/train.bin", std::string(3074, '\1'));
    write(root / "above_100/cifar-100-binary/train.bin", std::string(3074, '\1'));
    for (const char* name :
         {"python/data_batch_1", "python100/train", "python100/test", "python100/meta", "matlab/data_batch_1.mat",
          "above_python/cifar-10-batches-py/data_batch_1", "downloads/cifar-10-binary.tar.gz", "parquet/0.parquet",
          "parquet/1.parquet", "parquet/infos.json"}) {
      write(root / name, "\x80\x04");
    }
    fs::create_symlink("loop", root / "loop");

    for (int i = 1; i <= 6; ++i) {
      for (const char* name :
           {"pictures/a", "pictures/b", "one_class/a", "other_class/train/a", "other_class/train/b", "no_tests/train/a",
            "no_tests/train/b", "other_endings/cats", "other_endings/dogs", "other_endings/fish/2023", "parts/train",
            "parts/test1", "no_labels/train/a", "no_labels/train/b", "no_labels/test", "above_pictures/pictures/a",
            "above_pictures/pictures/b"}) {
        write(root / name / (std::to_string(i) + ".png"), pixel());
      }
      write(root / "other_endings/birds" / (std::to_string(i) + ".webp"), "RIFF");
    }
    write(root / "other_endings/__MACOSX/._cats", "");
    for (const char* name : {"flat/1.png", "few/a/1.png", "few/b/1.png", "other_class/test/c/1.png"}) {
      write(root / name, pixel());
    }
    fs::create_directories(root / "no_tests/test/a");
    fs::create_directories(root / "no_pictures/a");
    write(root / "unreadable/a/text.png", "no picture");
    write(root / "text", "no model");
    write(root / "picture.gif", "GIF89a..");
    write(root / "cut.png", pixel().substr(0, 40));
    write(root / "cut.jpg", std::string("\xff\xd8\xff\xe0\0\4\0\0", 8));
    write(root / "huge.png",
          program::png_signature + program::png_header(65'535, 65'535, 8, 2) + program::png_data("no more"));

    fs::create_directories(root / "page/report.html");
    for (const char* name : {"busy.part", "busy_page/report.html.part"}) {
      write(root / name, "");
      locks_.push_back(open((root / name).c_str(), O_RDWR | O_CLOEXEC));
      REQUIRE(flock(locks_.back(), LOCK_EX | LOCK_NB) == 0);
    }

    const Outcome run = program::run_in(root, MERISTEM_CIFAR10,
                                        words("--model mlp --hidden 1 --data data --epochs 1 --batch 20 --seed 3 "
                                              "--method none --checkpoint saved"));
    CAPTURE(run.err);
    REQUIRE(run.exit_code == 0);
    const std::string saved = program::read(root / "saved");
    REQUIRE(saved.size() > 1000);
    for (const auto& [name, size] : {std::pair<const char*, std::size_t>{"cut_7", 7},
                                     {"cut_100", 100},
                                     {"cut_half", saved.size() / 2},
                                     {"cut_last", saved.size() - 1}}) {
      write(root / name, saved.substr(0, size));
    }
    write(root / "longer", saved + '\0');
    const auto changed = [&](const char* name, std::size_t at) {
      REQUIRE(at < saved.size());
      std::string copy = saved;
      copy[at] = static_cast<char>(copy[at] ^ 1);
      write(root / name, copy);
    };
    const std::string format = "\"meristem.format_version\":\"";
    changed("header_changed", saved.find("\"Sgd") + 1);
    changed("weights_changed", saved.size() - 20);
    std::string version = saved;
    REQUIRE(contains(version, format + "2"));
    version[version.find(format) + format.size()] = '3';
    write(root / "version", version);
    const fs::path seeds = MERISTEM_FUZZ_SEEDS;
    fs::copy_file(seeds / "checkpoint/valid_mlp", root / "other_program");
    fs::copy_file(seeds / "model/valid_mlp", root / "model.safetensors");
    const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    write(root / "foreign.safetensors", static_cast<char>(header.size()) + std::string(7, '\0') + header + "abcd");
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;
  ~Fixture() {
    for (const int lock : locks_) close(lock);
  }

  [[nodiscard]] const fs::path& path() const { return folder_.path(); }

  /// Every name with what it is; of files also the size and when they were changed.
  [[nodiscard]] std::string inventory() const {
    std::set<std::string> lines;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
      struct stat status {};
      REQUIRE(lstat(entry.path().c_str(), &status) == 0);
      std::ostringstream line;
      line << entry.path().string() << ' ' << status.st_mode;
      if (S_ISREG(status.st_mode)) {
        line << ' ' << status.st_size << ' ' << status.st_ino << ' ' << status.st_ctim.tv_sec << '.'
             << status.st_ctim.tv_nsec;
      }
      lines.insert(line.str());
    }
    std::string all;
    for (const std::string& line : lines) all += line + "\n";
    return all;
  }

 private:
  Folder folder_;
  std::vector<int> locks_;
};

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("wrong usage: every message has the name of the option or file, and what to do") {
  const Fixture fixture;
  const std::string before = fixture.inventory();
  std::set<Words> distinct;
  for (const auto& table : {wrong_values(), wrong_words(), wrong_data(), wrong_places(), wrong_checkpoints(),
                            wrong_classify(), wrong_export()}) {
    for (const Wrong& wrong : table) {
      std::string line;
      for (const std::string& argument : wrong.arguments) line += " '" + argument + "'";
      CAPTURE(line);
      CHECK(distinct.insert(wrong.arguments).second);
      const Outcome outcome = program::run_in(fixture.path(), MERISTEM_CIFAR10, wrong.arguments);
      CAPTURE(outcome.err);
      CAPTURE(wrong.name);
      CAPTURE(wrong.remedy);
      CHECK(outcome.exit_code == wrong.exit_code);
      CHECK(outcome.out == "");
      const std::string part = wrong.arguments[0];
      const bool own = part == "classify" || part == "export";
      CHECK(outcome.err.starts_with(own ? "cifar10 " + part + ": " : "cifar10: "));
      CHECK(outcome.err.ends_with("\n"));
      CHECK(contains(outcome.err, wrong.name));
      REQUIRE(wrong.remedy.size() > 8);
      CHECK(contains(outcome.err, wrong.remedy));
      // A sentence, and for options where to read of them; not where in the source it was thrown.
      CHECK(program::lines_of(outcome.err).size() <= 2);
      CHECK_FALSE(contains(outcome.err, ".hpp:"));
      const std::string now = fixture.inventory();
      CHECK(now == before);
      if (now != before) return;
    }
  }
  MESSAGE(distinct.size(), " runs of wrong usage");
  CHECK(distinct.size() >= 100);
}

TEST_SUITE_END();
