#include "session.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include <meristem/kernels/reduce.cuh>

namespace cifar10 {

ms::nn::BatchSource<float> watched(std::int64_t size, ms::data::ImageBatches<float> images,
                                   const Listeners& listeners) {
  return {size, [images = std::move(images), &listeners](ms::Context& ctx, std::span<const std::int64_t> indices) {
            interrupt::check("growth");
            listeners.tell(StillBusy{"growing"});
            return images(ctx, indices);
          }};
}

namespace {

/// On the device, where that is worth it.
std::optional<ms::data::DeviceImages> on_device(ms::Context& ctx, const ms::data::ImageSet& set) {
  if (!ms::data::DeviceImages::fits(ctx, set)) return std::nullopt;
  return ms::data::DeviceImages(ctx, set);
}

ms::data::Loader<float> batches_of(ms::Context& ctx, const std::optional<ms::data::DeviceImages>& images,
                                   const ms::data::ImageSet& set, std::int64_t batch_size,
                                   const ms::data::BatchOptions& options = {}) {
  return images ? images->batches<float>(ctx, batch_size, options) : set.batches<float>(ctx, batch_size, options);
}

}  // namespace

Session::Session(const Options& options, std::map<std::string, std::string> given, const Listeners& listeners,
                 RunHistory& history, const Saved* saved)
    : o_(&options),
      given_(saved ? saved->options : std::move(given)),
      listeners_(&listeners),
      history_(&history),
      saved_(saved),
      ctx_({.seed = options.seed}) {
  if (saved) history.restore(saved->history, options.resume);
  if (saved) last_checkpoint_ = options.resume;
  probe_checkpoint();
}

int Session::run() {
  start_ = std::chrono::steady_clock::now();
  try {
    prepare();
    for (; at_.epoch <= o_->epochs; next_epoch()) {
      if (!at_.tested) {
        train();
        test_epoch();
        save();
      }
      if (grows_now()) {
        grow();
        continue;
      }
    }
    end();
    if (save_failed_) {
      listeners_->tell(Warning{ms::concat(o_->checkpoint, ": what the run ended with is not saved, see above; ",
                                          last_checkpoint_.empty() ? std::string("there is no checkpoint")
                                                                   : "go on with --resume " + last_checkpoint_)});
    }
    return save_failed_ ? 1 : 0;
  } catch (const Interrupted& interrupted) {
    // Growth may stop in the midst of things; what was saved before it holds.
    if (interrupted.phase != growing && interrupted.phase != preparing) save();
    listeners_->tell(RunStopped{interrupted.phase, last_checkpoint_, !o_->checkpoint.empty()});
    throw;
  }
}

void Session::prepare() {
  const Options& o = *o_;
  listeners_->tell(StillBusy{"preparing"});
  data_ = load(o, *listeners_);
  train_images_ = on_device(ctx_, data_.train);
  test_images_ = on_device(ctx_, data_.test);
  interrupt::check(preparing);
  if (saved_) {
    require_same_data();
    net_.emplace(explained(resume_wants, [&] { return saved_->checkpoint.network(ctx_); }));
  } else {
    net_.emplace(build(ctx_, o, data_.train));
  }
  const bool sgd = o.optimizer == "sgd";
  const double peak = o.peak_learning_rate();
  if (sgd) {
    optimizer_ = std::make_unique<ms::optim::Sgd<float>>(
        *net_, ms::optim::SgdOptions{.learning_rate = peak, .momentum = o.momentum, .weight_decay = o.weight_decay});
  } else {
    optimizer_ = std::make_unique<ms::optim::AdamW<float>>(
        *net_, ms::optim::AdamWOptions{.learning_rate = peak, .weight_decay = o.weight_decay});
  }
  steps_ = (data_.train.size() + o.batch - 1) / o.batch;
  if (o.warm_up > 0.0) {
    const double steps = std::ceil(o.warm_up * static_cast<double>(steps_));
    optimizer_->set_growth_rate(ms::optim::rewarm(0.1, static_cast<std::int64_t>(steps)));
  }
  if (saved_) {
    explained(resume_wants, [&] { saved_->checkpoint.restore(ctx_, *net_, *optimizer_); });
    at_ = saved_->at;
  }
  loss_ = {.label_smoothing = o.label_smoothing};
  if (saved_) width_names_ = history_->width_names();
  find_sites();
  image_ = ms::Shape{1, data_.train.height, data_.train.width, data_.train.channels};
  if (o.automatic && !saved_) require_operations();
  if (o.method != "none" && (!sites_.empty() || o.deepens())) {
    make_grower();
    require_room(o, *net_, grower_->sites());
    if (saved_) grower_->restore(at_.grower);
  }
  schedule_.emplace(ms::optim::ScheduleOptions{
      .peak = peak,
      .decay = o.schedule == "constant" ? ms::optim::Decay::constant : ms::optim::Decay::cosine,
      .hold_steps = o.hold_epochs() * steps_,
      .total_steps = o.epochs * steps_});
  growth_epochs_ = o.growth_epochs();
  RunStarted started{.model = o.model,
                     .optimizer = o.optimizer,
                     .growth = grower_ ? o.growth_plan() : "none",
                     .hidden_names = width_names_,
                     .network = state(),
                     .epochs = o.epochs,
                     .steps = steps_,
                     .learning_rate = peak,
                     .falling = o.schedule != "constant",
                     .held = o.hold_epochs(),
                     .seed = o.seed,
                     .resumed_from = o.resume,
                     .resumed_epoch = at_.epoch,
                     .resumed_step = at_.step};
  // Nothing is printed before all that can be wrong with the options and the data has been found.
  listeners_->tell(DeviceChosen{ctx_.device_name()});
  listeners_->tell(loaded(data_));
  listeners_->tell(started);
}

void Session::find_sites() {
  sites_ = shown_sites(*o_, *net_);
  for (const auto& site : sites_) {
    const bool known = std::find(width_names_.begin(), width_names_.end(), site.name) != width_names_.end();
    if (!known && names_width(site)) width_names_.push_back(site.name);
  }
}

void Session::require_operations() const {
  const double images = static_cast<double>(data_.train.size());
  const double least = 6.0 * images * static_cast<double>(o_->epochs) * static_cast<double>(work());
  if (o_->max_operations > least) return;
  throw ms::ArgumentError(ms::concat("--max-operations: ", o_->max_operations, " are not enough: ", o_->epochs,
                                     o_->epochs == 1 ? " epoch" : " epochs", " of the smallest network alone take ",
                                     least, "; give more of them, or fewer --epochs or --images"));
}

void Session::make_grower() {
  try {
    grower_.emplace(*net_, *optimizer_, grower_options(*o_));
  } catch (const ms::ArgumentError& error) {
    if (o_->layers.empty()) throw;
    // The library does not know which option named the layers.
    const std::string &text = error.message(), prefix = "growth: ";
    std::string told = "--grow-layers: " + text.substr(text.starts_with(prefix) ? prefix.size() : 0);
    const std::string widths = "with Widths::all";
    if (const auto at = told.find(widths); at != std::string::npos) {
      told.replace(at, widths.size(), "with --grow all-widths");
    }
    throw ms::ArgumentError(told);
  }
}

void Session::train() {
  const Options& o = *o_;
  const auto start = std::chrono::steady_clock::now();
  const double before = at_.epoch_seconds;
  const ms::data::Augmentation augmentation =
      o.augment ? ms::data::Augmentation{.crop_padding = 4, .flip = true, .pad_mode = ms::data::PadMode::reflect}
                : ms::data::Augmentation{};
  const auto batches = batches_of(ctx_, train_images_, data_.train, o.batch,
                                  {.shuffle = true, .epoch = at_.epoch - 1, .augmentation = augmentation});
  // A multiply-add is two operations; forward, the inputs' and the weights' gradients take about the same.
  const double operations = 6.0 * static_cast<double>(net_->multiply_adds(image_));
  while (at_.step < steps_) {
    const auto batch = batches.batch(at_.step);
    optimizer_->set_learning_rate(schedule_->at(optimizer_->steps()));
    const ms::train::Metrics metrics = ms::train::step<float>(ctx_, *net_, batch, *optimizer_, loss_);
    at_.training += metrics;
    ++at_.step;
    at_.training_operations += operations * static_cast<double>(metrics.samples);
    at_.epoch_seconds = before + seconds_since(start);
    listeners_->tell(StepDone{.epoch = at_.epoch,
                              .epochs = o.epochs,
                              .step = at_.step,
                              .steps = steps_,
                              .images = metrics.samples,
                              .learning_rate = optimizer_->learning_rate(),
                              .batch = metrics,
                              .epoch_so_far = at_.training});
    interrupt::check("training");
  }
  require_finite_weights();
}

void Session::require_finite_weights() {
  ms::nn::check_finite(ctx_, *net_, ms::concat("training: after step ", optimizer_->steps()));
}

ms::train::Metrics Session::test(std::vector<Answer>* answers, const char* phase) {
  ms::train::Metrics total;
  const auto batches = batches_of(ctx_, test_images_, data_.test, test_batch());
  for (const auto& batch : batches) {
    interrupt::check(phase);
    listeners_->tell(StillBusy{"testing"});
    const ms::nn::Trace<float> trace = ms::nn::infer<float>(ctx_, *net_, batch.inputs);
    const ms::nn::LossValue<float> value = ms::nn::CrossEntropy{}(ctx_, trace.output, batch.labels, false);
    if (!std::isfinite(value.mean)) {
      throw ms::NumericError(ms::concat(phase, ": the loss is ", std::isnan(value.mean) ? "nan" : "infinite",
                                        ", as outputs of the network are too large for ", ms::dtype_name<float>,
                                        "; lower the learning rate (--learning-rate)"));
    }
    const std::int64_t samples = batch.labels.size();
    total += {value.mean, static_cast<double>(value.correct) / static_cast<double>(samples), samples};
    if (answers) append_answers(ctx_, trace.output, batch.labels, *answers);
  }
  return total;
}

Pictures Session::pictures_of(const std::vector<Answer>& answers) {
  Pictures pictures = make_pictures(ctx_, *net_, data_.test, answers);
  const auto batch = data_.train.batches<float>(ctx_, std::min(o_->batch, data_.train.size())).batch(0);
  pictures.units = ms::grow::diagnose<float>(ctx_, *net_, *optimizer_, sites_, batch, loss_);
  pictures.learning_rate = optimizer_->learning_rate();
  return pictures;
}

void Session::test_epoch() {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Answer> answers;
  const ms::train::Metrics testing = test(listeners_->want_pictures() ? &answers : nullptr, "testing");
  at_.epoch_seconds += seconds_since(start);
  at_.tested = true;
  if (listeners_->want_pictures()) listeners_->tell(pictures_of(answers));
  listeners_->tell(EpochDone{.epoch = at_.epoch,
                             .epochs = o_->epochs,
                             .training = at_.training,
                             .testing = testing,
                             .network = state(),
                             .seconds = at_.epoch_seconds});
}

bool Session::grows_now() const {
  return grower_ && !grower_->over() && std::binary_search(growth_epochs_.begin(), growth_epochs_.end(), at_.epoch) &&
         (!o_->automatic || room() > work());
}

std::int64_t Session::room() const {
  return room_for_work(*o_, spent(), o_->epochs - at_.epoch, data_.train.size(), grower_->sites().size());
}

void Session::grow() {
  interrupt::check(growing);
  if (o_->automatic) {
    ms::grow::Budget budget = grower_->options().budget;
    budget.multiply_adds = room();
    grower_->set_budget(budget);
  }
  const auto images = watched(
      data_.train.size(),
      train_images_ ? ms::data::ImageBatches<float>(*train_images_) : ms::data::ImageBatches<float>(data_.train),
      *listeners_);
  GrowthDone done;
  done.epoch = at_.epoch;
  if (o_->is_mlp()) {
    done.report = grower_->grow(ctx_, images,
                                [&](ms::grow::SiteReport& site) { site.accuracy = test(nullptr, growing).accuracy; });
  } else {
    // Testing after every layer would take longer than growing.
    done.report = grower_->grow(ctx_, images);
  }
  if (done.report.added() > 0) done.test_accuracy = test(nullptr, growing).accuracy;
  for (const ms::grow::SiteReport& site : done.report.sites) at_.growing_seconds += site.seconds;
  at_.growing_operations += done.report.operations;
  find_sites();
  done.over = grower_->over().value_or("");
  done.network = state();
  if (listeners_->want_pictures()) {
    for (const ms::grow::SiteReport& site : grower_->probe(ctx_, images))
      done.bottleneck_after[site.name] = site.bottleneck;
  }
  listeners_->tell(done);
  grew_ = true;
}

void Session::next_epoch() {
  ++at_.epoch;
  at_.step = 0;
  at_.training = {};
  at_.tested = false;
  at_.epoch_seconds = 0.0;
  if (std::exchange(grew_, false)) save();
}

void Session::end() {
  std::vector<Answer> answers;
  const ms::train::Metrics testing = test(listeners_->want_pictures() ? &answers : nullptr, "testing");
  if (listeners_->want_pictures()) listeners_->tell(pictures_of(answers));
  listeners_->tell(RunEnded{.testing = testing,
                            .network = state(),
                            .seconds = at_.seconds + seconds_since(start_),
                            .growing_seconds = at_.growing_seconds,
                            .grew = grower_.has_value(),
                            .training_operations = at_.training_operations,
                            .growing_operations = at_.growing_operations,
                            .bought = history_->bought()});
}

void Session::probe_checkpoint() const {
  const std::string& path = o_->checkpoint;
  if (path.empty()) return;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw ms::ArgumentError(ms::concat("--checkpoint ", path, ": is a folder; give the name of a file in it"));
  }
  if (path != o_->resume && std::filesystem::is_regular_file(path, ignored)) {
    throw ms::ArgumentError(ms::concat("--checkpoint ", path, ": the file is there already; go on from it by --resume ",
                                       path, ", choose another name, or remove it"));
  }
  try {
    const ms::io::AtomicFile probe(path);
  } catch (const ms::IoError& error) {
    if (path == o_->resume) {
      throw ms::IoError(ms::concat("--resume saves there too; ", error.message(),
                                   ", or name a place that can be written to by --checkpoint"));
    }
    throw ms::IoError(ms::concat("--checkpoint: ", error.message(), ", or choose a place that can be written to"));
  }
}

void Session::require_same_data() const {
  if (fingerprint(data_.train) == saved_->training && fingerprint(data_.test) == saved_->testing) return;
  throw ms::DataError(ms::concat(o_->resume, ": was trained on other images than ", data_.description,
                                 " has; give the same by --data"));
}

void Session::save() {
  const std::string& path = o_->checkpoint;
  if (path.empty()) return;
  Progress now = at_;
  now.seconds += seconds_since(start_);
  if (grower_) now.grower = grower_->state();
  if (fingerprints_.empty()) fingerprints_ = {fingerprint(data_.train), fingerprint(data_.test)};
  try {
    ms::io::save_checkpoint<float>(
        path, ctx_, *net_, *optimizer_,
        saved_state(now, given_, fingerprints_[0], fingerprints_[1], history_->text(), data_.train));
  } catch (const ms::NumericError&) {
    throw;
  } catch (const ms::Error& error) {
    return not_saved(error.message());
  } catch (const std::bad_alloc&) {
    return not_saved(path + ": memory ran out while it was written");
  }
  save_failed_ = false;
  last_checkpoint_ = path;
  listeners_->tell(CheckpointSaved{.path = path, .epoch = at_.epoch, .step = at_.step});
}

void Session::not_saved(const std::string& why) {
  save_failed_ = true;
  listeners_->tell(Warning{why + (last_checkpoint_.empty() ? "; nothing is saved yet, training goes on"
                                                           : "; the last checkpoint stays, training goes on")});
}

}  // namespace cifar10
