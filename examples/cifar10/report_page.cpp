#include "report_page.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <meristem/core/text.hpp>

#include "charts.hpp"

namespace cifar10 {
namespace {

using charts::escaped;
using charts::number;
using charts::point;
using Json = nlohmann::ordered_json;

constexpr const char* style = R"css(
:root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--ink:#1d2327;--soft:#5b656d;--rule:#dfe3e6;--grid:#e8ebed;
--good:#1a7f4b;--bad:#b3261e;--heat:26,127,75;--miss:179,38,30;
--c0:#1f6fb2;--c1:#c2571a;--c2:#1a7f4b;--c3:#a3338f;--c4:#8a6d00;--c5:#b3261e;--c6:#00808a;--c7:#5d53b8}
@media (prefers-color-scheme:dark){:root{--bg:#14181b;--card:#1d2327;--ink:#e6eaed;--soft:#a3adb5;--rule:#343d44;
--grid:#2a3238;--good:#5fcf95;--bad:#ff8f85;--heat:70,190,125;--miss:235,100,90;
--c0:#6db3f2;--c1:#f2a065;--c2:#5fcf95;--c3:#e389d3;--c4:#e0c04c;--c5:#ff8f85;--c6:#4fd0da;--c7:#b0a8ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:24px 20px 64px;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.2rem;margin:40px 0 6px}
h3{font-size:1rem;margin:0 0 8px}
p{margin:4px 0 12px;color:var(--soft);max-width:75ch}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 0;padding:0}
.facts div,.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}
.facts dt{font-size:.82rem;color:var(--soft)}
.facts dd{margin:0;font-size:1.3rem;font-weight:600;overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,220px),1fr));gap:12px}
.wide{overflow-x:auto}.single{max-width:640px}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft)}
.grid{stroke:var(--grid)}.axis{stroke:var(--rule)}
.mark{stroke:var(--soft);stroke-dasharray:2 4;opacity:.75}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
.stem{stroke:var(--grid)}.threshold{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 3}
.kept{fill:var(--c0)}.left-out{fill:var(--card);stroke:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:8px 0 0;padding:0;font-size:.86rem}
.legend span{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
details{margin:0 0 12px}summary{cursor:pointer;font-weight:600;padding:6px 0}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left}
.confusion td{min-width:44px;text-align:center;border:1px solid var(--card)}
@media (max-width:520px){.confusion td{min-width:24px;padding:4px 1px}.confusion th{padding:4px 2px}.bars{font-size:.76rem}}
.confusion thead th{vertical-align:bottom;text-align:center;max-width:60px;overflow:hidden;text-overflow:ellipsis}
.confusion thead th span{writing-mode:vertical-rl;transform:rotate(180deg)}
.bars{display:grid;grid-template-columns:minmax(60px,max-content) 1fr max-content;gap:4px 10px;align-items:center;font-size:.84rem}
.bars .bar{position:relative;height:18px;background:var(--grid);border-radius:3px;overflow:hidden}
.bars .before,.bars .after{position:absolute;left:0;top:0;bottom:0;border-radius:3px}
.bars .before{background:var(--c1);opacity:.45}.bars .after{background:var(--c1);top:6px;bottom:6px}
.bars .value{font-variant-numeric:tabular-nums;text-align:right}
.filters{display:grid;grid-template-columns:repeat(auto-fill,minmax(56px,1fr));gap:8px}
img{image-rendering:pixelated;width:100%;border-radius:4px;display:block}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(118px,1fr));gap:12px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:8px;font-size:.82rem}
figcaption{margin-top:6px;line-height:1.35}figcaption b{display:block;overflow-wrap:anywhere}
.right b{color:var(--good)}.wrong b{color:var(--bad)}
.share{display:flex;justify-content:space-between;gap:6px;color:var(--soft);position:relative}
.share span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
footer{margin-top:48px;font-size:.86rem;color:var(--soft)}
@media (max-width:520px){body{padding:16px 12px 48px}.card{padding:10px}h1{font-size:1.4rem}}
)css";

const Json& part(const Json& json, const char* key) {
  static const Json none;
  const auto found = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && found != json.end() ? *found : none;
}

double real(const Json& json, const char* key) {
  const Json& value = part(json, key);
  return value.is_number() ? value.get<double>() : std::nan("");
}

std::string text(const Json& json, const char* key) {
  const Json& value = part(json, key);
  return value.is_string() ? value.get<std::string>() : "";
}

std::vector<double> reals(const Json& list) {
  std::vector<double> values;
  for (const Json& value : list) values.push_back(value.is_number() ? value.get<double>() : std::nan(""));
  return values;
}

std::string whole(double value) {
  return std::isfinite(value) ? meristem::grouped(static_cast<std::int64_t>(value)) : "–";
}

std::string percent(double share, int digits = 2) {
  if (!std::isfinite(share)) return "–";
  std::ostringstream shown;
  shown << std::fixed << std::setprecision(digits) << 100 * share << " %";
  return shown.str();
}

class Page {
 public:
  Page(const Json& history, const Json& pictures)
      : run_(part(history, "run")),
        data_(part(history, "data")),
        epochs_(part(history, "epochs")),
        growths_(part(history, "growths")),
        result_(part(history, "result")),
        device_(text(part(history, "device"), "device")),
        pictures_(pictures) {}

  std::string html() {
    out_ =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        "<link rel=\"icon\" href=\"data:,\"><title>" +
        escaped(title()) + "</title><style>" + style + "</style></head><body>\n";
    head();
    if (!epochs_.empty()) progress();
    if (!epochs_.empty()) widths();
    network();
    if (!growths_.empty()) {
      bottlenecks();
      spectra();
      bought();
      growth_tables();
    }
    units();
    confusion();
    filters();
    examples();
    out_ += "<footer>Written by meristem's CIFAR-10 program. The page needs no network.</footer></body></html>\n";
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string title() const { return text(run_, "model") + " on " + text(data_, "description"); }

  void section(const char* id, const std::string& heading, const std::string& explanation) {
    out_ += std::string("<section id=\"") + id + "\"><h2>" + escaped(heading) + "</h2><p>" + explanation + "</p>";
  }
  void card(const std::string& content, const std::string& heading = "") {
    out_ += "<div class=\"card\">" + (heading.empty() ? "" : "<h3>" + escaped(heading) + "</h3>") + content + "</div>";
  }

  void fact(const std::string& name, const std::string& value) {
    out_ += "<div><dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd></div>";
  }

  void head() {
    const double done = static_cast<double>(epochs_.size()), planned = real(run_, "epochs");
    const Json& last = epochs_.empty() ? run_ : epochs_.back();
    const Json& testing = result_.is_object() ? part(result_, "testing") : part(last, "testing");
    out_ += "<h1>" + escaped(title()) + "</h1><p>" + whole(real(data_, "training")) + " images to train on, " +
            whole(real(data_, "testing")) + " to test. " + escaped(text(run_, "optimizer")) + ", learning rate " +
            number(real(run_, "learning_rate")) +
            (real(run_, "held") > 0 ? " for " + whole(real(run_, "held")) +
                                          (real(run_, "held") == 1 ? " epoch" : " epochs") + ", then falling to 0"
             : part(run_, "falling") == true ? " falling to 0"
                                             : "") +
            "; seed " + (part(run_, "seed").is_number() ? part(run_, "seed").dump() : "–") + "; " + escaped(device_) +
            ". Growth: " + escaped(text(run_, "growth")) + ".</p><dl class=\"facts\">";
    fact("test accuracy", percent(real(testing, "accuracy")));
    fact("epochs", number(done, 6) + " of " + number(planned, 6) + (result_.is_object() ? "" : " so far"));
    const double start = real(part(run_, "network"), "parameters");
    const double now = result_.is_object() ? real(part(result_, "network"), "parameters")
                       : epochs_.empty()   ? start
                                           : real(last, "parameters");
    fact("parameters", start == now ? whole(now) : whole(start) + " → " + whole(now));
    double added = 0.0;
    for (const Json& growth : growths_) added += real(growth, "added");
    fact(
        "units added in " + std::to_string(growths_.size()) + (growths_.size() == 1 ? " growth step" : " growth steps"),
        whole(added));
    if (result_.is_object()) fact("time", duration(real(result_, "seconds")));
    out_ += "</dl>";
  }

  static std::string duration(double seconds) {
    if (!(seconds >= 120)) return number(seconds) + " s";
    if (seconds < 7200) return number(seconds / 60) + " min";
    return number(seconds / 3600) + " h";
  }

  [[nodiscard]] std::vector<double> growth_epochs() const {
    std::vector<double> marks;
    for (const Json& growth : growths_) marks.push_back(real(growth, "epoch"));
    return marks;
  }

  void progress() {
    section("progress", "Accuracy and loss",
            growths_.empty()
                ? "Training values are means over the epoch, while the weights change; test values come after it."
                : "Training values are means over the epoch, while the weights change; test values come "
                  "after it. Dotted lines are growth steps.");
    out_ += "<div class=\"two\">";
    for (const bool accuracy : {true, false}) {
      const char* key = accuracy ? "accuracy" : "loss";
      charts::LineChart chart{
          .label = accuracy ? "accuracy over the epochs" : "loss over the epochs",
          .x_label = "epoch",
          .y_label = accuracy ? "accuracy, %" : "loss, nats per image",
          .unit = accuracy ? " %" : "",
          .series = {{.name = "training", .colour = 0, .points = {}}, {.name = "test", .colour = 1, .points = {}}},
          .marks = growth_epochs(),
          .x_from = 1,
          .x_to = std::max(2.0, real(run_, "epochs")),
          .from_zero = true};
      for (const Json& epoch : epochs_) {
        const double scale = accuracy ? 100 : 1, at = real(epoch, "epoch");
        chart.series[0].points.emplace_back(at, scale * real(part(epoch, "training"), key));
        chart.series[1].points.emplace_back(at, scale * real(part(epoch, "testing"), key));
      }
      card(charts::line_chart(chart), accuracy ? "Accuracy" : "Loss");
    }
    out_ += "</div></section>";
  }

  void widths() {
    // What joined is told with the last growth step.
    const Json* told = &part(run_, "hidden_names");
    for (const Json& growth : growths_) {
      const Json& now = part(part(growth, "network"), "hidden_names");
      if (now.is_array()) told = &now;
    }
    const Json& names = *told;
    if (names.empty()) return;
    section("widths", "Width of every layer", "Channels or units of the layers that can grow, in each epoch.");
    charts::LineChart chart{.label = "width of every layer over the epochs",
                            .x_label = "epoch",
                            .y_label = "channels or units",
                            .unit = "",
                            .series = {},
                            .marks = growth_epochs(),
                            .x_from = 1,
                            .x_to = std::max(2.0, real(run_, "epochs"))};
    for (std::size_t i = 0; i < names.size(); ++i) {
      charts::Series series{.name = names[i].get<std::string>(), .colour = i, .points = {}, .steps = true};
      for (const Json& epoch : epochs_) {
        const std::vector<double> hidden = reals(part(epoch, "hidden"));
        if (i < hidden.size()) series.points.emplace_back(real(epoch, "epoch"), hidden[i]);
        for (const Json& growth : growths_) {
          if (real(growth, "epoch") != real(epoch, "epoch")) continue;
          const std::vector<double> grown = reals(part(part(growth, "network"), "hidden"));
          if (i < grown.size()) series.points.emplace_back(real(epoch, "epoch"), grown[i]);
        }
      }
      chart.series.push_back(std::move(series));
    }
    out_ += "<div class=\"single\">";
    card(charts::line_chart(chart));
    out_ += "</div></section>";
  }

  /// Each layer a box, as tall as its map is high and as thick as it has channels; what was added in another shade.
  std::string drawing(const Json& layers, const Json& first, const std::string& label) {
    double most = 1.0;
    for (const Json& layer : layers) most = std::max(most, real(layer, "outputs"));
    double side = 1.0;
    for (const Json& layer : layers) side = std::max(side, real(layer, "height"));
    const auto thick = [&](double outputs) { return 5.0 + 2.6 * std::sqrt(std::max(outputs, 0.0)); };
    constexpr double gap = 13.0, middle = 92.0;
    double x = 12.0;
    std::string boxes, arcs, block;
    double block_x = 0.0;
    const auto close_block = [&](double to) {
      if (block.empty()) return;
      const double rise = 96.0;
      arcs += "<path fill=\"none\" stroke=\"var(--soft)\" opacity=\".6\" d=\"M" + point(block_x) + " " + point(middle) +
              "C" + point(block_x) + " " + point(middle - rise) + " " + point(to) + " " + point(middle - rise) + " " +
              point(to) + " " + point(middle) + "\" stroke-width=\"1.5\"><title>" + escaped(block) +
              ": skip connection</title></path>";
      block.clear();
    };
    for (const Json& layer : layers) {
      const std::string name = text(layer, "name"), its_block = text(layer, "block");
      if (its_block != block) {
        close_block(x - gap / 2);
        block = its_block;
        block_x = x - gap / 2;
      }
      // Blocks that joined move those behind them along; their own layers were not there.
      const auto before =
          std::find_if(first.begin(), first.end(), [&](const Json& l) { return text(l, "name") == name; });
      const double outputs = real(layer, "outputs"), was = before == first.end() ? 0.0 : real(*before, "outputs");
      const bool map = text(layer, "kind") == "Conv2d";
      const double tall = map ? 28.0 + 62.0 * std::sqrt(real(layer, "height") / side) : 40.0;
      const double wide = thick(outputs), old = outputs > 0 ? wide * std::min(1.0, was / outputs) : wide;
      const std::string fill = part(layer, "grows") == true ? "var(--c0)" : "var(--soft)";
      boxes += "<g><title>" + escaped(name) + ": " + number(outputs, 7) + (map ? " channels" : " units") +
               (map ? ", maps of " + number(real(layer, "height")) + " × " + number(real(layer, "width")) : "") +
               (outputs > was ? "; " + number(was, 7) + " at the start" : "") + "</title><rect x=\"" + point(x) +
               "\" y=\"" + point(middle - tall / 2) + "\" width=\"" + point(old) + "\" height=\"" + point(tall) +
               "\" rx=\"2\" fill=\"" + fill + "\" opacity=\".8\"/>";
      if (outputs > was) {
        boxes += "<rect x=\"" + point(x + old) + "\" y=\"" + point(middle - tall / 2) + "\" width=\"" +
                 point(wide - old) + "\" height=\"" + point(tall) + "\" rx=\"2\" fill=\"var(--c1)\" opacity=\".9\"/>";
      }
      boxes += "<text x=\"" + point(x + wide / 2) + "\" y=\"" + point(middle + 62) + "\" text-anchor=\"middle\">" +
               number(outputs, 7) + "</text></g>";
      x += wide + gap;
    }
    close_block(x - gap / 2);
    const double width = std::max(x, 200.0);
    return "<div class=\"wide\"><svg style=\"width:" + point(width) + "px;max-width:none\" viewBox=\"0 0 " +
           point(width) + " 164\" role=\"img\" aria-label=\"" + escaped(label) +
           "\"><line class=\"axis\" x1=\"0\" x2=\"" + point(width) + "\" y1=\"92\" y2=\"92\"/>" + arcs + boxes +
           "</svg></div>";
  }

  void network() {
    const Json& first = part(part(run_, "network"), "layers");
    if (first.empty()) return;
    const Json* last = &first;
    for (const Json& growth : growths_) last = &part(part(growth, "network"), "layers");
    section(
        "network", "The network",
        "Layers with weights in the order data flows: as tall as their maps are high, as thick as they have channels "
        "or units (the number below). Blue layers can grow, grey ones cannot; orange is what growth added. Arcs are "
        "skip connections.");
    card(drawing(first, first, "the network at the start"), "At the start");
    if (!growths_.empty()) {
      out_ += "<div style=\"height:12px\"></div>";
      card(drawing(*last, first, "the network now"), result_.is_object() ? "At the end" : "Now");
    }
    out_ += "</section>";
  }

  void bottlenecks() {
    section(
        "bottlenecks", "Expressivity bottleneck",
        "What the loss asks of a layer's consumer and today's weights cannot express, Ψ, at each growth step: the pale "
        "bar "
        "is Ψ before, the thin one Ψ measured anew when all layers have grown. Growth changes the gradients too, so "
        "that Ψ may also rise. Bars of one growth step have one scale.");
    out_ += "<div class=\"two\">";
    for (const Json& growth : growths_) {
      double most = 1e-300;
      for (const Json& site : part(growth, "sites")) {
        for (const char* when : {"bottleneck", "bottleneck_after"}) {
          if (std::isfinite(real(site, when))) most = std::max(most, real(site, when));
        }
      }
      std::string bars = "<div class=\"bars\">";
      for (const Json& site : part(growth, "sites")) {
        const double before = real(site, "bottleneck");
        const double after = real(site, "bottleneck_after");
        const bool measured = std::isfinite(after);
        const std::string shown = measured ? number(before) + " → " + number(after) : number(before);
        bars += "<div>" + escaped(text(site, "name")) +
                "</div><div class=\"bar\"><div class=\"before\" style=\"width:" +
                point(std::isfinite(before) ? 100 * before / most : 0.0) +
                "%\"></div><div class=\"after\" style=\"width:" + point(measured ? 100 * after / most : 0.0) +
                "%\"></div></div><div class=\"value\">" + shown + "</div>";
      }
      card(bars + "</div>", "Growth after epoch " + number(real(growth, "epoch"), 6));
    }
    out_ += "</div></section>";
  }

  void spectra() {
    section("spectra", "Spectra",
            "Singular values λ of the candidate units at each growth step, on a logarithmic scale. The dashed line is "
            "the threshold of significance: what lies below cannot be told from noise. Filled dots are units that were "
            "added.");
    for (std::size_t g = 0; g < growths_.size(); ++g) {
      const Json& growth = growths_[g];
      out_ += std::string("<details") + (g + 1 == growths_.size() ? " open" : "") + "><summary>Growth after epoch " +
              number(real(growth, "epoch"), 6) + "</summary><div class=\"many\">";
      for (const Json& site : part(growth, "sites")) {
        const auto added = static_cast<std::size_t>(std::max(real(site, "added"), 0.0));
        const std::string svg =
            charts::spectrum(text(site, "name"), reals(part(site, "lambda")), real(site, "threshold"), added);
        const std::string why = svg.empty() ? "<p>" + escaped(text(site, "note")) + "</p>" : svg;
        card(why, text(site, "name") + (added > 0 ? ": +" + std::to_string(added) : ""));
      }
      out_ += "</div></details>";
    }
    out_ += "</section>";
  }

  /// Which kind of growth was bought, for how much, and what it gave.
  void bought() {
    const Json& kinds = part(result_, "bought");
    if (!kinds.is_array() || kinds.empty()) return;
    section("bought", "What growth bought",
            "Hidden widths are those inside blocks and chains, tied widths those that skip connections add up, blocks "
            "those that were not there. Multiply-adds are those of one image; the loss, in nats per image, fell by so "
            "much on the images of the line search, all growth steps added up.");
    std::string table =
        "<div class=\"wide\"><table><thead><tr><th>kind</th><th>times</th><th>units</th><th>parameters</th>"
        "<th>multiply-adds</th><th>decrease</th></tr></thead><tbody>";
    for (const Json& kind : kinds) {
      table += "<tr><td>" + escaped(text(kind, "kind")) + "</td>";
      for (const char* count : {"times", "units", "parameters", "multiply_adds"}) {
        table += "<td>" + whole(real(kind, count)) + "</td>";
      }
      table += "<td>" + number(real(kind, "decrease")) + "</td></tr>";
    }
    card(table + "</tbody></table></div>");
    out_ += "</section>";
  }

  void growth_tables() {
    section("growth", "Growth steps",
            "Unexpressed is the share of Ψ in all that was asked for; γ the amplitude that the line search chose; "
            "predicted and measured are decreases of the loss, in nats per image.");
    for (const Json& growth : growths_) {
      std::string table =
          "<div class=\"wide\"><table><thead><tr><th>layer</th><th>Ψ</th><th>unexpressed</th><th>units</th><th>γ</th>"
          "<th>predicted</th><th>measured</th><th>parameters</th></tr></thead><tbody>";
      for (const Json& site : part(growth, "sites")) {
        const bool grew = real(site, "added") > 0;
        const auto cell = [&](const std::string& value) { table += "<td>" + escaped(value) + "</td>"; };
        table += "<tr>";
        cell(text(site, "name"));
        cell(number(real(site, "bottleneck")));
        cell(percent(real(site, "unexpressed"), 1));
        cell(number(real(site, "width"), 7) + (grew ? " + " + number(real(site, "added"), 7) : ""));
        cell(grew ? number(real(site, "gamma"), real(site, "gamma") < 1 ? 3 : 6) : "–");
        cell(grew ? number(real(site, "predicted")) : "–");
        cell(grew ? number(real(site, "measured")) : "–");
        cell(whole(real(site, "parameters")));
        table += "</tr>";
        if (!text(site, "note").empty()) {
          table += "<tr><td colspan=\"8\" style=\"white-space:normal;color:var(--soft)\">" +
                   escaped(text(site, "note")) + "</td></tr>";
        }
      }
      card(table + "</tbody></table></div>", "After epoch " + number(real(growth, "epoch"), 6));
      out_ += "<div style=\"height:12px\"></div>";
    }
    out_ += "</section>";
  }

  void units() {
    const Json& rows = part(pictures_, "units");
    if (rows.empty()) return;
    section(
        "units", "How the units fare",
        "Units of each layer by when they joined, with the gradients of one batch: the mean norm of the weights that "
        "make a unit and of those that read it, the root mean square of the weights of the normalisation between, "
        "learning rate · ‖g‖/‖w‖ of both, which is about the angle by which a step turns them, and the share that is "
        "zero on the whole batch. New units that training can make use of come close to the others.");
    const double rate = real(pictures_, "learning_rate"), steps = real(run_, "steps");
    std::string table =
        "<div class=\"wide\"><table><thead><tr><th>layer</th><th>joined</th><th>units</th><th>fan-in</th><th>norm</th>"
        "<th>fan-out</th><th>turn of fan-in</th><th>turn of fan-out</th><th>dead</th></tr></thead><tbody>";
    for (const Json& row : rows) {
      const auto cell = [&](const std::string& value) { table += "<td>" + escaped(value) + "</td>"; };
      const double joined = real(row, "first_step") - 1.0;
      table += "<tr>";
      cell(text(row, "name"));
      cell(joined <= 0.0 || !(steps > 0.0) ? "start" : "epoch " + number(joined / steps, 6));
      cell(whole(real(row, "units")));
      cell(number(real(row, "fan_in_norm")));
      cell(number(real(row, "norm_weight")));
      cell(number(real(row, "fan_out_norm")));
      cell(number(rate * real(row, "relative_gradient")));
      cell(number(rate * real(row, "fan_out_gradient")));
      cell(percent(real(row, "dead"), 0));
      table += "</tr>";
    }
    card(table + "</tbody></table></div>");
    out_ += "</section>";
  }

  [[nodiscard]] std::string class_name(std::size_t index) const {
    const Json& names = part(data_, "classes");
    return index < names.size() && names[index].is_string() ? names[index].get<std::string>() : std::to_string(index);
  }

  void confusion() {
    const Json& rows = part(pictures_, "confusion");
    if (rows.empty()) return;
    section("confusion", "Confusion",
            rows.size() <= 20
                ? "Rows are what the test images show, columns what the network answers, in percent of the row."
                : "What the test images show, and what the network most often takes it for.");
    struct Miss {
      double count;
      std::size_t truth, answer;
    };
    std::vector<Miss> misses;
    std::string table = "<div class=\"wide\"><table class=\"confusion\"><thead><tr><th></th>";
    for (std::size_t c = 0; c < rows.size(); ++c) table += "<th><span>" + escaped(class_name(c)) + "</span></th>";
    table += "</tr></thead><tbody>";
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::vector<double> counts = reals(rows[r]);
      double sum = 0.0;
      for (const double count : counts) sum += count;
      table += "<tr><th>" + escaped(class_name(r)) + "</th>";
      for (std::size_t c = 0; c < counts.size(); ++c) {
        const double share = sum > 0 ? counts[c] / sum : 0.0;
        if (c != r && counts[c] > 0) misses.push_back({counts[c], r, c});
        table += "<td style=\"background:rgba(var(--" + std::string(c == r ? "heat" : "miss") + ")," +
                 number(0.85 * std::sqrt(share), 2) + ")\" title=\"" + escaped(class_name(r)) + " taken for " +
                 escaped(class_name(c)) + ": " + whole(counts[c]) + "\">" +
                 (share >= 0.005 ? std::to_string(std::lround(100 * share)) : "") + "</td>";
      }
      table += "</tr>";
    }
    table += "</tbody></table></div>";
    if (rows.size() > 20) {
      std::stable_sort(misses.begin(), misses.end(), [](const Miss& a, const Miss& b) { return a.count > b.count; });
      table =
          "<div class=\"wide\"><table><thead><tr><th>shows</th><th>taken for</th><th>images</th></tr></thead><tbody>";
      for (std::size_t i = 0; i < std::min<std::size_t>(misses.size(), 20); ++i) {
        table += "<tr><td>" + escaped(class_name(misses[i].truth)) + "</td><td>" +
                 escaped(class_name(misses[i].answer)) + "</td><td>" + whole(misses[i].count) + "</td></tr>";
      }
      table += "</tbody></table></div>";
    }
    card(table);
    out_ += "</section>";
  }

  void filters() {
    const Json& images = part(pictures_, "filters");
    if (images.empty()) return;
    const double count = real(pictures_, "filter_count");
    section("filters", "Filters of the first layer",
            "The weights of " + escaped(text(pictures_, "filter_layer")) +
                " as colours, each filter at its own scale; grey is 0." +
                (count > static_cast<double>(images.size())
                     ? " The first " + std::to_string(images.size()) + " of " + whole(count) + "."
                     : ""));
    out_ += "<div class=\"card filters\">";
    for (std::size_t i = 0; i < images.size(); ++i) {
      out_ += "<img alt=\"filter " + std::to_string(i + 1) + "\" src=\"" + images[i].get<std::string>() + "\">";
    }
    out_ += "</div></section>";
  }

  void examples() {
    for (const bool typical : {true, false}) {
      const Json& all = part(pictures_, typical ? "typical" : "mistaken");
      if (all.empty()) continue;
      section(typical ? "examples" : "mistakes", typical ? "Examples" : "The surest mistakes",
              typical ? "The first test images, what the network takes them for, and how sure it is."
                      : "Test images that the network is most sure of, and wrong.");
      out_ += "<div class=\"examples\">";
      for (const Json& example : all) {
        const auto label = static_cast<std::size_t>(real(example, "label"));
        const Json& answers = part(example, "answers");
        const auto answer = answers[0][0].get<std::size_t>();
        const bool right = answer == label;
        out_ += std::string("<figure class=\"") + (right ? "right" : "wrong") + "\"><img alt=\"" +
                escaped(class_name(label)) + "\" src=\"" + text(example, "image") + "\"><figcaption><b>" +
                (right ? "✓ " : "✗ ") + escaped(class_name(answer)) + "</b>" +
                (right ? "" : "shows " + escaped(class_name(label)) + "<br>");
        for (const Json& one : answers) {
          out_ += "<span class=\"share\"><span>" + escaped(class_name(one[0].get<std::size_t>())) + "</span><span>" +
                  percent(one[1].get<double>(), 0) + "</span></span>";
        }
        out_ += "</figcaption></figure>";
      }
      out_ += "</div></section>";
    }
  }

  const Json &run_, &data_, &epochs_, &growths_, &result_;
  std::string device_;
  const Json& pictures_;
  std::string out_;
};

}  // namespace

std::string report_page(const Json& history, const Json& pictures) { return Page(history, pictures).html(); }

}  // namespace cifar10
