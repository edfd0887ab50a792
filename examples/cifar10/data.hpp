// The images to train and test on.
#pragma once

#include <string>

#include <meristem/data/image_folder.hpp>
#include <meristem/meristem.hpp>

#include "events.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "recognise.hpp"

namespace cifar10 {

namespace ms = meristem;

struct Data {
  ms::data::ImageSet train, test;
  std::string description, remark;
};

Data load(const Options& o, const Listeners& listeners);

/// What there is to tell of it.
DataLoaded loaded(const Data& data);

}  // namespace cifar10
