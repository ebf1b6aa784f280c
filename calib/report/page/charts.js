
"use strict";
// Draws Vega-Lite specifications as SVG, in the colours of the theme, without evaluating any text as code.
const calibCharts = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const NARROW = 500;  // px

  const themed = (themes, width) => {
    const theme = structuredClone(dark.matches ? themes.dark : themes.light);
    theme.axisY = { labelLimit: width < NARROW ? 150 : 340 };
    return theme;
  };

  // On a narrow page only the ends of names fit; they differ there. Names that would become equal stay long.
  function shortenNames(spec) {
    if (spec.encoding?.y?.type !== "nominal") return;
    const field = spec.encoding.y.field;
    const names = spec.data.values.map((row) => calibTables.shorten(row[field], 22));
    if (new Set(names).size === names.length) spec.data.values.forEach((row, i) => { row[field] = names[i]; });
    if (Array.isArray(spec.encoding.y.sort)) spec.encoding.y.sort = spec.data.values.map((row) => row[field]);
  }

  async function draw(place, spec, themes) {
    const width = Math.max(220, place.clientWidth);
    const sized = structuredClone(spec);
    if (width < NARROW) shortenNames(sized);
    if (sized.vconcat) for (const part of sized.vconcat) part.width = width - sized.usermeta.room;
    else sized.width = width;
    const compiled = vegaLite.compile(sized, { config: themed(themes, width) }).spec;
    const view = new vega.View(vega.parse(compiled, null, { ast: true }), {
      expr: vega.expressionInterpreter, renderer: "svg", container: place, hover: true, logLevel: vega.Warn,
    });
    if (place.view) place.view.finalize();
    place.view = view;
    await view.runAsync();
  }

  // One tensor's histogram and candidate ranges, as the data sets of the histogram specification.
  function fill(spec, tensor) {
    const filled = structuredClone(spec);
    const { edges, counts, ranges, estimator, chosen } = tensor;
    // Two edges stand for bins of equal width between them.
    const edge = (i) => (edges.length > 2 ? edges[i] : edges[0] + ((edges[1] - edges[0]) * i) / counts.length);
    filled.datasets.bins = counts.map((count, i) => ({ low: edge(i), high: edge(i + 1), count }));
    const rows = Object.entries(ranges).map(([name, [low, high]]) => ({ estimator: name, low, high, kind: "other estimators" }));
    const own = rows.find((row) => row.estimator === estimator);
    if (own) Object.assign(own, { low: chosen[0], high: chosen[1], kind: "chosen" });
    else rows.unshift({ estimator: estimator || "chosen", low: chosen[0], high: chosen[1], kind: "chosen" });
    for (const row of rows) if (row.kind === "chosen") row.estimator = `${row.estimator} ✓`;
    filled.datasets.ranges = rows;
    filled.vconcat[1].encoding.y.sort = rows.map((row) => row.estimator);
    // Vega has no good ticks for a symlog scale: powers of ten up to the highest bin.
    const most = Math.max(1, ...counts);
    const ticks = [0];
    for (let power = 1; power <= most; power *= 10) ticks.push(power);
    filled.vconcat[0].layer[0].encoding.y.axis.values = ticks;
    return filled;
  }

  function words(tensor) {
    const { number, share } = calibTables.formats;
    const span = ([low, high]) => `[${number(low)}, ${number(high)}]`;
    const others = Object.entries(tensor.ranges).filter(([name]) => name !== tensor.estimator);
    return [
      `Feeds ${tensor.layers.join(", ")}. Data in ${span(tensor.data)};`,
      `${tensor.estimator} chose ${span(tensor.chosen)}, ${tensor.scheme}, ${tensor.levels} levels`,
      tensor.clipped === null ? "" : `, ${share(tensor.clipped)} of the values clipped`,
      `. ${tensor.reason ? `${tensor.reason}. ` : ""}`.replace("..", "."),
      others.length ? `Other estimators: ${others.map(([name, range]) => `${name} ${span(range)}`).join(", ")}.` : "",
    ].join(" ").replaceAll(" ,", ",").replaceAll(" .", ".");
  }

  return { draw, fill, words, dark };
})();
