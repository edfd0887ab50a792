// Channels that many layers feed and many read: streams, which skip connections tie together.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <meristem/core/dtype.hpp>
#include <meristem/nn/layer.hpp>

namespace meristem::grow {

template <Real T>
class Affine;
template <Real T>
struct Reader;
template <Real T>
struct Source;
template <Real T>
struct Site;

}  // namespace meristem::grow

namespace meristem::grow::detail {

/// Follows the outputs of every affine layer of a network, through sums and whatever lets them pass, to the layers that
/// read them. Sources whose outputs are added up have one width.
template <Real T>
class StreamFinder {
 public:
  explicit StreamFinder(nn::Layer<T>& network);

  /// A site for every source whose width can grow, in the order data flows; hidden layers with one reader among them.
  [[nodiscard]] std::vector<Site<T>> sites() const;

  /// Why the width of a layer's outputs cannot grow; empty if it can or the layer is not affine.
  [[nodiscard]] std::string trouble(const std::string& name) const;

  /// Where an affine layer stands in the order data flows.
  [[nodiscard]] std::size_t place(const nn::Layer<T>* layer) const;

 private:
  /// How the units of a source arrive somewhere: what they have passed.
  struct Arrival {
    std::size_t source = 0;
    Reader<T> path;
    bool activated = false;
    bool direct = true;   // nothing stands behind the source yet
    bool global = false;  // a pooling leaves no maps
  };
  struct Flow {
    std::vector<Arrival> arrivals;
    std::string foreign;  // what else is in it, of a width that does not grow
  };
  struct Read {
    std::size_t source;
    Reader<T> how;
  };

  [[nodiscard]] Flow follow(nn::Layer<T>& layer, Flow flow);

  [[nodiscard]] Flow read(nn::Layer<T>& layer, const Affine<T>& affine, const Flow& flow);

  [[nodiscard]] Flow add(nn::Layer<T>& layer, const nn::Description<T>& told, const Flow& flow);

  void activate(const nn::Layer<T>& layer, const std::optional<nn::Activation>& function, double slope, Flow& flow);

  void pool(nn::Layer<T>& layer, const nn::Description<T>& told, Flow& flow);

  void flatten(const nn::Layer<T>& layer, Flow& flow);

  /// No width in the flow can grow.
  void refuse(const Flow& flow, const std::string& why);

  void refuse(std::size_t source, const std::string& why);

  void tie(std::size_t a, std::size_t b);

  [[nodiscard]] std::size_t root(std::size_t source) const;

  [[nodiscard]] Site<T> site(std::size_t source) const;

  std::vector<Source<T>> sources_;
  std::vector<std::size_t> parents_;            // of a forest whose trees are streams
  std::map<std::size_t, std::string> refused_;  // by any source
  std::vector<Read> reads_;
  std::map<const nn::Layer<T>*, std::size_t> source_of_;
  std::set<const nn::Layer<T>*> adding_;  // norms whose activation is that of the sum
};

}  // namespace meristem::grow::detail

#include <meristem/grow/units/site.hpp>

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/units/streams_impl.hpp>
#endif
