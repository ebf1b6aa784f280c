
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
  const drawAll = async () => {
    for (const place of charts) await draw(place);
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
  document.documentElement.dataset.ready = "true";

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
