// Who decides what grows: rules that look at candidates one after the other, and leave them fewer units or none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <meristem/core/config.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/solve/units.hpp>

namespace meristem::grow {

/// A site that may get units in a growth step: what is known of it, and what has been decided about it so far.
struct Candidate {
  struct Cost {
    std::int64_t parameters = 0;
    /// Of one forward pass of one sample; 0 where neither a rule nor a budget depends on it.
    std::int64_t multiply_adds = 0;
  };

  std::int64_t growth_step = 0;  ///< growth steps that the Grower has taken before this one
  /// Name, width, stream, block and the network's size today from the start; λ, threshold, gain and `found` once its
  /// units are found; what was measured once all are.
  SiteReport report = {};
  std::int64_t fan_in = 0;               ///< p, the bias included
  std::int64_t fan_out = 0;              ///< q, of a stream that of its widest reader
  Cost unit = {};                        ///< what one more unit adds to the network; from `limit` on
  Cost fixed = {};                       ///< what its residual block brings beside the units, if that is not there yet
  bool solved = false;                   ///< whether its units are found
  double move_slope = 0.0;               ///< the part of the report's slope that the move of today's weights has
  std::vector<double> unit_slopes = {};  ///< what each unit lowers the loss by per γ; empty where that is not measured

  // Decided.
  bool considered = true;                      ///< false: neither measured nor reported
  std::int64_t samples = unlimited;            ///< of its statistics
  std::int64_t units = unlimited;              ///< that it gets at most
  std::optional<double> gamma = std::nullopt;  ///< the amplitude, if it is not the Grower's to choose
  std::string why = {};                        ///< for the report, if it gets none

  /// Lowers `units` to `most`; `reason` is told where that leaves none.
  void at_most(std::int64_t most, const std::string& reason = {}) {
    if (most >= units) return;
    units = std::max<std::int64_t>(most, 0);
    if (units == 0) why = reason;
  }

  /// Whose width it is: the site's name, of a stream that of its first source.
  [[nodiscard]] const std::string& width_name() const { return report.stream.empty() ? report.name : report.stream; }

  /// What its `units` best units and the move of today's weights lower the loss by per γ. Where units are not measured
  /// one by one, each has an equal share of what all of them gain; 0 for none.
  [[nodiscard]] double slope() const {
    if (units <= 0) return 0.0;
    if (units >= report.found) return report.slope;
    if (unit_slopes.empty()) {
      const double share = static_cast<double>(units) / static_cast<double>(report.found);
      return move_slope + share * (report.slope - move_slope);
    }
    std::vector<double> best = unit_slopes;
    std::sort(best.begin(), best.end(), std::greater<>());
    best.resize(std::min(best.size(), static_cast<std::size_t>(units)));
    return std::accumulate(best.begin(), best.end(), move_slope);
  }

  /// Slope per parameter, or per multiply-add, of everything that `units` units bring; -∞ for none.
  [[nodiscard]] double gain_per_cost(bool by_work) const {
    if (units <= 0) return -std::numeric_limits<double>::infinity();
    const std::int64_t each = by_work ? unit.multiply_adds : unit.parameters;
    const std::int64_t once = by_work ? fixed.multiply_adds : fixed.parameters;
    return slope() / (static_cast<double>(units) * static_cast<double>(each) + static_cast<double>(once));
  }
};

/// Decides about candidates; any object is one that has some of these members, and any function that takes a
/// `Candidate&`, for `limit`, or a `std::span<Candidate>`, for `choose`:
///
/// - `consider(Candidate&) const`, before anything is measured: whether the site takes part, and on how many samples;
/// - `limit(Candidate&) const`, how many units it may get: before they are found, and once more, `solved`, when
///   `report.found` are. For fewer than these the method chooses again; random features may still fill up to the limit.
///   Of a method that refines candidates, as firefly, it is asked before alone;
/// - `choose(std::span<Candidate>) const`, of all that were measured in the same passes which get how many of the
///   units found. Those that lower the loss most stay. The candidates keep their order: sort pointers to them.
///
/// `Decider(a) & b` asks `a`, then `b`.
class Decider {
 public:
  /// Leaves everything as it is.
  Decider() = default;

  template <class Rule>
  Decider(Rule rule) requires(!std::is_same_v<Rule, Decider>) {  // NOLINT: implicit on purpose
    constexpr bool considers = requires(const Rule& r, Candidate& c) { r.consider(c); };
    constexpr bool limits = requires(const Rule& r, Candidate& c) { r.limit(c); };
    constexpr bool chooses = requires(const Rule& r, std::span<Candidate> all) { r.choose(all); };
    constexpr bool one = std::is_invocable_v<const Rule&, Candidate&>;
    constexpr bool several = std::is_invocable_v<const Rule&, std::span<Candidate>>;
    static_assert(considers || limits || chooses || one || several,
                  "a rule is a function of a Candidate& or a std::span<Candidate>, or has one of the members "
                  "consider, limit and choose, all const");
    constexpr bool unused = (requires { &Rule::consider; } && !considers) || (requires { &Rule::limit; } && !limits) ||
                            (requires { &Rule::choose; } && !chooses);
    static_assert(!unused,
                  "consider and limit of a rule take a Candidate&, choose a std::span<Candidate>; all are const");
    const auto kept = std::make_shared<const Rule>(std::move(rule));
    Functions made;
    if constexpr (considers) made.consider = [kept](Candidate& c) { kept->consider(c); };
    if constexpr (limits) made.limit = [kept](Candidate& c) { kept->limit(c); };
    if constexpr (chooses) made.choose = [kept](std::span<Candidate> all) { kept->choose(all); };
    if constexpr (one && !limits) made.limit = [kept](Candidate& c) { (*kept)(c); };
    if constexpr (several && !chooses) made.choose = [kept](std::span<Candidate> all) { (*kept)(all); };
    rules_.push_back(std::move(made));
  }

  /// Whether it leaves everything as it is.
  [[nodiscard]] bool empty() const noexcept { return rules_.empty(); }

  void consider(Candidate& candidate) const {
    for (const Functions& rule : rules_) {
      if (rule.consider) rule.consider(candidate);
    }
  }
  void limit(Candidate& candidate) const {
    for (const Functions& rule : rules_) {
      if (rule.limit) rule.limit(candidate);
    }
  }
  void choose(std::span<Candidate> candidates) const {
    for (const Functions& rule : rules_) {
      if (rule.choose) rule.choose(candidates);
    }
  }

  friend Decider operator&(Decider a, const Decider& b) {
    a.rules_.insert(a.rules_.end(), b.rules_.begin(), b.rules_.end());
    return a;
  }

 private:
  struct Functions {
    std::function<void(Candidate&)> consider, limit;
    std::function<void(std::span<Candidate>)> choose;
  };

  std::vector<Functions> rules_;
};

}  // namespace meristem::grow
