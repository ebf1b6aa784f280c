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

  const fill = async (place) => {
    place.dataset.filled = "true";
    const answer = await fetch(place.dataset.src);
    if (!answer.ok) {
      place.textContent = "This table could not be read; load the page again.";
      return;
    }
    new calibTables.Grid(place, await answer.json(), null);
    document.documentElement.dataset.filled = "true";  // for tests
  };
  const fillAll = (root) => {
    for (const place of root.querySelectorAll("[data-src]:not([data-filled])")) fill(place);
  };
  document.addEventListener("htmx:load", (event) => fillAll(event.detail.elt.parentElement ?? document));
  fillAll(document);
})();
