// For nvcc, in a program whose other parts g++ compiles.
#include "product.cpp"
