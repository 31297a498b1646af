// Runs before the page is drawn, so that it never flashes in the wrong colours. A classic script for that reason.
(() => {
  const chosen = localStorage.getItem("storerec-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
