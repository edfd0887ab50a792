// Where a network can grow, found from how its layers describe themselves.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <meristem/core/dtype.hpp>
#include <meristem/grow/units/site.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow::detail {

/// Follows the outputs of every affine layer of a network, through sums and whatever lets them pass, to the layers that
/// read them. Sources whose outputs are added up have one width.
template <Real T>
class SiteFinder {
 public:
  explicit SiteFinder(nn::Layer<T>& network);

  /// A site for every affine layer whose outputs can grow, in the order data flows.
  [[nodiscard]] std::vector<Site<T>> sites(Widths widths) const;

  /// "cannot grow: " and why the outputs of a layer cannot; empty if they can.
  [[nodiscard]] std::string refusal(const std::string& name, Widths widths) const;

 private:
  /// How the units of a source arrive somewhere: what they have passed.
  struct Arrival {
    std::size_t source = 0;
    Reader<T> path;
    bool activated = false;
    bool direct = true;                         // nothing stands behind the source yet
    bool global = false;                        // a pooling leaves no maps
    int unknown_before = 0, unknown_after = 0;  // what stands beside them, of widths that no layer tells

    [[nodiscard]] bool beside() const {
      return !path.before.empty() || !path.after.empty() || unknown_before + unknown_after > 0;
    }
  };
  struct Flow {
    std::vector<Arrival> arrivals;
    std::string foreign;  // what else is in it, of a width that does not grow
  };
  struct Read {
    std::size_t source;
    Reader<T> how;
    bool positions;     // the consumer is Linear and reads each position of a map
    std::size_t place;  // how many others stand before them
    bool shares_norm;   // the norm in front of the consumer takes in others that stand beside them
  };
  /// What a flow has, side by side.
  struct Row {
    std::vector<Affine<T>> layers;
    int unknown = 0;
  };

  [[nodiscard]] Flow follow(nn::Layer<T>& layer, Flow flow);

  [[nodiscard]] Flow read(nn::Layer<T>& layer, const Affine<T>& affine, const Flow& flow);

  [[nodiscard]] Flow add(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow);

  [[nodiscard]] Flow put_side_by_side(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow);

  [[nodiscard]] Row row_of(const Flow& flow) const;

  /// Where among what a reader reads the units stand.
  void locate(const Arrival& arrival, Reader<T>& reader);

  void normalise(nn::BatchNorm<T>& norm, Flow& flow);

  void activate(const nn::Layer<T>& layer, const std::optional<nn::Activation>& function, double slope, Flow& flow);

  void pool(nn::Layer<T>& layer, const nn::Description<T>& told, Flow& flow);

  void flatten(const nn::Layer<T>& layer, Flow& flow);

  /// No width in the flow can grow.
  void refuse(const Flow& flow, const std::string& why);

  void refuse(std::size_t source, const std::string& why);

  void tie(std::size_t a, std::size_t b);

  [[nodiscard]] std::size_t root(std::size_t source) const;

  [[nodiscard]] std::ptrdiff_t readers_of(std::size_t source) const;

  /// Whether more than a source and a reader are tied to it.
  [[nodiscard]] bool is_stream(std::size_t source) const;

  /// The sources whose outputs are added to those of this one, itself included.
  [[nodiscard]] std::vector<std::size_t> members(std::size_t source) const;

  [[nodiscard]] std::string refusal(std::size_t source, Widths widths) const;

  [[nodiscard]] std::string trouble_of_chain(std::size_t source) const;

  [[nodiscard]] std::string trouble_of_stream(std::size_t source) const;

  [[nodiscard]] Site<T> site(std::size_t source) const;

  std::vector<Affine<T>> sources_;
  std::vector<std::size_t> parents_;            // of a forest whose trees are streams
  std::map<std::size_t, std::string> refused_;  // by any source
  std::vector<Read> reads_;
  std::map<const nn::Layer<T>*, std::size_t> source_of_;
  std::set<const nn::Layer<T>*> adding_;  // norms whose activation is that of the sum
};

}  // namespace meristem::grow::detail

namespace meristem::grow {

/// All sites of a network, in the order data flows, as its layers describe themselves: affine layers (Linear, Conv2d),
/// each followed by at most one BatchNorm, whose outputs pass one activation (a function with a slope at zero; ReLU
/// several times is once), at most two poolings (the windows of the first do not overlap), one Flatten and any identity
/// (Dropout) on their way to affine layers. Sequences within sequences are one chain. Where a Concatenate puts outputs
/// side by side, readers read those of each layer as a range. Widths::hidden takes those with a single reader whose
/// outputs are not added to others, Widths::all also the sources of streams. Readers of a stream may have one more
/// BatchNorm, which stands between the sums, or what stands side by side, and what else is on their way; several may
/// share it.
template <Real T>
[[nodiscard]] std::vector<Site<T>> find_sites(nn::Layer<T>& network, Widths widths = Widths::hidden);

/// The site of that name. Throws ArgumentError that says what stands in the way: no such layer, channels that skip
/// connections tie to those of other layers (it lists them), or no consumer.
template <Real T>
[[nodiscard]] Site<T> find_site(nn::Layer<T>& network, const std::string& name, Widths widths = Widths::hidden);

}  // namespace meristem::grow

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/find_sites_impl.hpp>
#endif
