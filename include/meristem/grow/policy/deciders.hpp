// The deciders of the Grower's own: which of the candidates of a growth step get their units.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <meristem/core/error.hpp>
#include <meristem/grow/history.hpp>
#include <meristem/grow/policy/decider.hpp>
#include <meristem/grow/policy/where.hpp>
#include <meristem/grow/report.hpp>
#include <meristem/grow/units/site.hpp>

namespace meristem::grow::detail {

/// Shares out the units of each stream among its sources: of the units of all of them those stay that lower the loss
/// most, as many as one source may get. Where a method does not say what each unit brings, those of the source that
/// gains most stay.
struct Shares {
  void choose(std::span<Candidate> candidates) const;
};

/// Leaves its units to the candidate that gains most by the rule, if the rule is one that compares.
struct Best {
  Where where = Where::all;

  void choose(std::span<Candidate> candidates) const;
};

/// Of blocks that are not there yet, leaves its units to the one that gains most per parameter, if that is more than
/// the widths of the same growth step did.
struct Deepens {
  double slope = 0.0;
  std::int64_t paid = 0;  ///< parameters that the widths got

  void choose(std::span<Candidate> candidates) const;
};

/// Decides as one growth step of a history did.
class Replay {
 public:
  /// `index`: of the growth step. Throws ArgumentError if the history has none of that number, or if another method
  /// took it.
  Replay(std::shared_ptr<const History> history, std::size_t index, const std::string& method);

  [[nodiscard]] const GrowthReport& step() const { return history_->steps[index_]; }
  /// What is recorded of the block that joined; null for none.
  [[nodiscard]] const SiteReport* block() const;
  /// When a site grew, among those of the growth step.
  [[nodiscard]] std::size_t position(const std::string& site) const;
  /// Throws ArgumentError unless every site of the growth step is one of `sites`, DataError for a site of another
  /// width. Blocks that were not there are left to the caller.
  template <Real T>
  void require_sites(const std::vector<Site<T>>& sites) const;

  void consider(Candidate& candidate) const;
  void limit(Candidate& candidate) const;
  /// Throws DataError for a candidate with other units than recorded.
  void choose(std::span<Candidate> candidates) const;

 private:
  /// What is recorded of a candidate that grew; null for one that did not.
  [[nodiscard]] const SiteReport* recorded(const Candidate& candidate) const;

  std::shared_ptr<const History> history_;
  std::size_t index_;
};

}  // namespace meristem::grow::detail

#if !defined(MERISTEM_COMPILED)
#include <meristem/grow/policy/deciders_impl.hpp>
#endif
