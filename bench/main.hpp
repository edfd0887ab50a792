// main() of every program; of one that several sources are compiled into, too.
#pragma once

#include "support.hpp"

int main(int argc, char** argv) { return bench::run(argc, argv); }
