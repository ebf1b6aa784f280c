
"use strict";
// Puts the page together: tables, charts, the choice of a tensor; draws again when the width or the theme changes.
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const picker = document.getElementById("tensor");
  const charts = [...document.querySelectorAll("[data-chart]")];

  const spec = (name) => {
    const found = data.charts[name];
    return name === "histogram" ? calibCharts.fill(found, data.tensors[picker.selectedIndex]) : found;
  };
  const draw = async (place) => calibCharts.draw(place, spec(place.dataset.chart), data.themes);
  const pause = () => new Promise((done) => setTimeout(done));
  const inSight = (place) => place.getBoundingClientRect().top < window.innerHeight && place.clientWidth > 0;
  // For tests and measurements.
  const tell = (what) => {
    performance.mark(what);
    document.documentElement.dataset[what] = "true";
  };
  // What is in sight comes first; between two charts the page stays usable.
  const drawAll = async () => {
    const first = charts.filter(inSight);
    for (const place of first) await draw(place);
    tell("ready");
    for (const place of charts.filter((other) => !first.includes(other))) {
      await pause();
      await draw(place);
    }
    tell("complete");
  };

  const choose = async (index) => {
    picker.selectedIndex = Math.min(Math.max(index, 0), data.tensors.length - 1);
    document.getElementById("tensor-words").textContent = calibCharts.words(data.tensors[picker.selectedIndex]);
    await draw(document.querySelector("[data-chart=histogram]"));
  };

  const openLayer = (row) => {
    const index = picker ? data.tensors.findIndex((tensor) => tensor.layers.includes(row[0])) : -1;
    if (index >= 0) choose(index);
  };

  if (picker) {
    picker.append(...data.tensors.map((tensor) => calibTables.make("option", { textContent: tensor.tensor })));
    document.getElementById("tensor-words").textContent = calibCharts.words(data.tensors[0]);
    picker.addEventListener("change", () => choose(picker.selectedIndex));
    document.getElementById("previous").addEventListener("click", () => choose(picker.selectedIndex - 1));
    document.getElementById("next").addEventListener("click", () => choose(picker.selectedIndex + 1));
  }
  for (const place of document.querySelectorAll("[data-table]")) {
    new calibTables.Grid(place, data.tables[place.dataset.table], place.dataset.table === "layers" ? openLayer : null);
  }
  await drawAll();

  let width = document.documentElement.clientWidth;
  let timer = 0;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 150);
  });
  calibCharts.dark.addEventListener("change", drawAll);
})();
