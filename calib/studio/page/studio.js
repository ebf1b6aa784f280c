"use strict";
// What htmx does not do: tables of the report, copying, and dropping files.
(() => {
  const copy = async (button) => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {  // no permission, or an address that is not this machine's
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  // Files dropped on a form go the way of those chosen in it.
  for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, (event) => {
    const form = document.querySelector("form.drop");
    if (!form || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.classList.toggle("over", name === "dragover");
    if (name !== "drop" || !event.dataTransfer.files.length) return;
    form.querySelector("input[type=file]").files = event.dataTransfer.files;
    form.querySelector("output").textContent = "Sending …";
    form.requestSubmit();
  });

  // What is waited for says how long it has taken. Nothing turns: without a GPU an animation costs a tenth of a core,
  // of a machine whose speed may be what is being measured.
  const begun = new WeakMap();
  setInterval(() => {
    for (const place of document.querySelectorAll(".waiting")) {
      if (!begun.has(place)) begun.set(place, performance.now());
      place.dataset.seconds = Math.round((performance.now() - begun.get(place)) / 1000);
    }
  }, 1000);

  const fill = async (place) => {
    place.dataset.filled = "true";
    const answer = await fetch(place.dataset.src);
    if (!answer.ok) {
      place.replaceChildren(Object.assign(document.createElement("p"), { className: "note", textContent: "There is no table: the message above, or the command line, says why." }));
      return;
    }
    place.replaceChildren();
    new calibTables.Grid(place, await answer.json(), null);
    document.documentElement.dataset.filled = "true";  // for tests
  };
  const fillAll = (root) => {
    for (const place of root.querySelectorAll("[data-src]:not([data-filled])")) fill(place);
  };
  document.addEventListener("htmx:load", (event) => fillAll(event.detail.elt.parentElement ?? document));
  fillAll(document);
})();
