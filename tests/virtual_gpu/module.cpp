// Kernels' PTX and registers from the fat binary inside a program that nvcc compiled.
#include <cxxabi.h>
#include <elf.h>

#include <cstdlib>
#include <cstring>

#include "program.hpp"

namespace virtual_gpu {

namespace {

template <class T>
T read(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

}  // namespace

Module::Module(const char* fat_binary) {
  constexpr u32 magic = 0xBA55ED50, compressed = 0x8000 | 0x2000;
  constexpr u16 ptx = 1, elf = 2;
  if (read<u32>(fat_binary) != magic) throw Unsupported("the program's fat binary is of an unknown format");
  const char* entry = fat_binary + read<u16>(fat_binary + 6);
  const char* const end = entry + read<u64>(fat_binary + 8);
  u32 newest_ptx = 0, newest_elf = 0;  // of several architectures
  while (entry < end) {
    const u32 header = read<u32>(entry + 4), architecture = read<u32>(entry + 28);
    const u64 bytes = read<u64>(entry + 8);
    if (read<u32>(entry + 40) & compressed) throw Unsupported("PTX is compressed: compile with nvcc -no-compress");
    const u16 kind = read<u16>(entry);
    if (kind == ptx && architecture >= newest_ptx) {
      newest_ptx = architecture;
      text_ = std::string_view(entry + header, bytes);
      while (!text_.empty() && text_.back() == '\0') text_.remove_suffix(1);
    } else if (kind == elf && architecture >= newest_elf) {
      newest_elf = architecture;
      read_registers(entry + header);
    }
    entry += header + bytes;
  }
}

// Section .nv.info has for each kernel its symbol's number and the registers of a thread.
void Module::read_registers(const char* elf) {
  constexpr u8 sized_value = 4, register_count = 0x2f;
  const auto head = read<Elf64_Ehdr>(elf);
  const auto section = [&](u32 i) { return read<Elf64_Shdr>(elf + head.e_shoff + u64{i} * sizeof(Elf64_Shdr)); };
  const Elf64_Shdr names = section(head.e_shstrndx);
  Elf64_Shdr symbols{}, information{};
  for (u32 i = 0; i < head.e_shnum; ++i) {
    const Elf64_Shdr s = section(i);
    if (s.sh_type == SHT_SYMTAB) symbols = s;
    if (std::string_view(elf + names.sh_offset + s.sh_name) == ".nv.info") information = s;
  }
  const Elf64_Shdr strings = section(symbols.sh_link);
  const char* at = elf + information.sh_offset;
  const char* const end = at + information.sh_size;
  while (at < end) {
    const u8 format = read<u8>(at), attribute = read<u8>(at + 1);
    if (format == sized_value && attribute == register_count) {
      const auto symbol = read<Elf64_Sym>(elf + symbols.sh_offset + u64{read<u32>(at + 4)} * sizeof(Elf64_Sym));
      registers_[elf + strings.sh_offset + symbol.st_name] = read<u32>(at + 8);
    }
    at += format == sized_value ? 4 + read<u16>(at + 2) : 4;
  }
}

void Module::index() {
  indexed_ = true;
  constexpr std::string_view word = ".entry ";
  for (std::size_t at = text_.find(word); at != std::string_view::npos; at = text_.find(word, at)) {
    at += word.size();
    const std::size_t end = text_.find_first_of("( \n", at);
    entries_[std::string(text_.substr(at, end - at))] = end;
  }
}

Kernel* Module::kernel(const std::string& name) {
  if (!indexed_) index();
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return known->second.get();
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return nullptr;
  auto kernel = std::make_unique<Kernel>();
  kernel->name = demangled(name);
  const auto registers = registers_.find(name);
  if (registers != registers_.end()) kernel->registers_per_thread = registers->second;
  parse_kernel(*kernel, text_, entry->second);
  return (kernels_[name] = std::move(kernel)).get();
}

}  // namespace virtual_gpu
