
"use strict";
// Puts the page together: tables, charts, the choice of a tensor; draws again when the width or the theme changes.
(() => {
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

  // Vega is compiled for the first chart, after tables and text are seen.
  const startVega = () => {
    for (const part of document.querySelectorAll("script[type='text/plain']")) {
      part.remove();
      document.head.append(calibTables.make("script", { textContent: part.textContent }));
    }
  };

  const draw = (place, spec) => {
    startVega();
    return calibCharts.draw(place, spec, block("themes"));
  };

  const drawHistogram = async (place) => {
    const tensor = tensors()[Math.max(picker.selectedIndex, 0)];
    document.getElementById("tensor-words").textContent = calibCharts.words(tensor);
    await draw(place, calibCharts.fill(block("chart-histogram"), tensor));
  };
  const drawChart = async (place) => {
    const name = place.dataset.chart;
    if (name === "histogram") await drawHistogram(place);
    else await draw(place, block(`chart-${name}`));
  };
  const shown = {};
  const show = (place) => {
    const name = place.dataset.table;
    if (!name && !place.dataset.network) return drawChart(place);
    if (place.hasChildNodes()) return null;
    if (name) shown[name] = new calibTables.Grid(place, block(`table-${name}`), name === "layers" ? openLayer : null);
    else shown.network = new calibNetwork.Network(place, block("network"), block("table-layers"), pickLayer);
    return null;
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
  // For tests and measurements.
  const tell = (what) => {
    performance.mark(what);
    document.documentElement.dataset[what] = "true";
  };

  // What is near is drawn, in the order of the page; what is further down, or folded away, when it comes near.
  const waiting = new Set(places);
  const isNear = (place) => {
    const { top, bottom } = place.getBoundingClientRect();
    return place.clientWidth > 0 && top < 1.5 * window.innerHeight && bottom > -0.5 * window.innerHeight;
  };
  const showNear = async () => {
    for (const place of places) {  // what is shown pushes down what follows
      if (!waiting.has(place) || !isNear(place)) continue;
      waiting.delete(place);
      observer.unobserve(place);
      if (place.dataset.chart) await pause();  // between two charts the page stays usable
      await show(place);
    }
    tell("ready");
  };
  let working = Promise.resolve();
  const comesNear = () => { working = working.then(showNear).catch(reportError); };
  // With the document as its root the margin counts in a frame, too.
  const observer = new IntersectionObserver(comesNear, { root: document, rootMargin: "50%" });
  const showAgain = () => {
    for (const place of places) {
      waiting.add(place);
      observer.observe(place);
    }
    comesNear();
  };
  // Paper shows all but what is folded away.
  window.addEventListener("beforeprint", async () => {
    const rest = [...waiting].filter((place) => place.clientWidth > 0);
    for (const place of rest) waiting.delete(place);
    await Promise.all(rest.map(show));
    tell("complete");
  });

  const choose = async (index) => {
    picker.selectedIndex = Math.min(Math.max(index, 0), tensors().length - 1);
    await drawHistogram(document.querySelector("[data-chart=histogram]"));
  };

  const pickLayer = (index) => {
    show(document.querySelector("[data-table=layers]"));
    shown.layers.reveal(index);
  };

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
  showAgain();

  let width = document.documentElement.clientWidth;
  let timer = 0;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(showAgain, 150);
  });
  calibCharts.dark.addEventListener("change", showAgain);
})();
