// The one header that brings in everything.
#pragma once

#include <meristem/core/blas.hpp>
#include <meristem/core/context.hpp>
#include <meristem/core/launch.hpp>
#include <meristem/core/philox.hpp>
#include <meristem/core/solver.hpp>
#include <meristem/core/tensor.hpp>
#include <meristem/data/cifar.hpp>
#include <meristem/data/loader.hpp>
#include <meristem/data/synthetic.hpp>
#include <meristem/grow/grower.hpp>
#include <meristem/models/mlp.hpp>
#include <meristem/nn/activation.hpp>
#include <meristem/nn/flatten.hpp>
#include <meristem/nn/linear.hpp>
#include <meristem/nn/loss.hpp>
#include <meristem/nn/sequential.hpp>
#include <meristem/optim/adamw.hpp>
#include <meristem/optim/schedule.hpp>
#include <meristem/optim/sgd.hpp>
#include <meristem/train/trainer.hpp>
