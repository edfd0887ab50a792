// Decodes the pictures named on standard input, two words a line: a JPEG or PNG file, and where its pixels go. Prints
// "ok HEIGHT WIDTH" or "no REASON" for each.
#include <exception>
#include <fstream>
#include <iostream>
#include <string>

#include <meristem/data/image_file.hpp>

int main() {
  std::string from, to;
  while (std::cin >> from >> to) {
    try {
      const meristem::data::Image image = meristem::data::read_image(from);
      std::ofstream(to, std::ios::binary)
          .write(reinterpret_cast<const char*>(image.pixels.data()), std::ssize(image.pixels));
      std::cout << "ok " << image.height << ' ' << image.width << '\n';
    } catch (const std::exception& error) {
      std::cout << "no " << error.what() << '\n';
    }
  }
}
