// The colours, before anything is painted: light, dark, or as the system has it. Not a module, so
// that it runs while the page is still being read.
(() => {
  const chosen = localStorage.getItem("sightline.theme");
  if (chosen === '"dark"' || chosen === '"light"') document.documentElement.dataset.theme = JSON.parse(chosen);
})();
