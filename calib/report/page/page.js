
"use strict";
// Puts the page together: tables, charts, the choice of a tensor; draws again when the width or the theme changes.
(async () => {
  const picker = document.getElementById("tensor");
  const places = [...document.querySelectorAll("[data-chart], [data-table], [data-network]")];

  // The data of each part are read when it is shown for the first time: a network of 2,000 layers has megabytes.
  const read = {};
  const block = (name) => (read[name] ??= JSON.parse(document.getElementById(`data-${name}`).textContent));
  const tensors = () => {
    const found = block("tensors");
    if (!picker.length) picker.append(...found.map((tensor) => calibTables.make("option", { textContent: tensor.tensor })));
    return found;
  };

  const drawHistogram = async (place) => {
    const tensor = tensors()[Math.max(picker.selectedIndex, 0)];
    document.getElementById("tensor-words").textContent = calibCharts.words(tensor);
    await calibCharts.draw(place, calibCharts.fill(block("chart-histogram"), tensor), block("themes"));
  };
  const drawChart = async (place) => {
    const name = place.dataset.chart;
    if (name === "histogram") await drawHistogram(place);
    else await calibCharts.draw(place, block(`chart-${name}`), block("themes"));
  };
  const shown = {};
  const show = async (place) => {
    const name = place.dataset.table;
    if (place.dataset.network) {
      if (!place.hasChildNodes()) shown.network = new calibNetwork.Network(place, block("network"), block("table-layers"), pickLayer);
    } else if (!name) await drawChart(place);
    else if (!place.hasChildNodes()) shown[name] = new calibTables.Grid(place, block(`table-${name}`), name === "layers" ? openLayer : null);
  };
  // Clipboards need a secure context; a selection that is copied the old way works everywhere else.
  const copy = async (button) => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  const pause = () => new Promise((done) => setTimeout(done));
  const inSight = (place) => place.getBoundingClientRect().top < 1.5 * window.innerHeight && place.clientWidth > 0;
  // For tests and measurements.
  const tell = (what) => {
    performance.mark(what);
    document.documentElement.dataset[what] = "true";
  };
  // What is in sight comes first; between two charts the page stays usable.
  const showAll = async () => {
    const later = [];
    for (const place of places) {  // what is shown pushes down what follows
      if (inSight(place)) await show(place);
      else later.push(place);
    }
    tell("ready");
    for (const place of later) {
      await pause();
      await show(place);
    }
    tell("complete");
  };

  const choose = async (index) => {
    picker.selectedIndex = Math.min(Math.max(index, 0), tensors().length - 1);
    await drawHistogram(document.querySelector("[data-chart=histogram]"));
  };

  const pickLayer = (index) => shown.layers?.reveal(index);

  const openLayer = (row, place) => {
    shown.network?.reveal(place);
    const index = picker ? tensors().findIndex((tensor) => tensor.layers.includes(row[0])) : -1;
    if (index >= 0) choose(index);
  };

  if (picker) {
    picker.addEventListener("change", () => choose(picker.selectedIndex));
    document.getElementById("previous").addEventListener("click", () => choose(picker.selectedIndex - 1));
    document.getElementById("next").addEventListener("click", () => choose(picker.selectedIndex + 1));
  }
  await showAll();

  let width = document.documentElement.clientWidth;
  let timer = 0;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(showAll, 150);
  });
  calibCharts.dark.addEventListener("change", showAll);
})();
