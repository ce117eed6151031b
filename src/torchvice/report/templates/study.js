// Sets up the keys of a study's page, then its tables and figures.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open || event.target.closest?.("input, select")) return;
  if (event.key === "?") { event.preventDefault(); help.showModal(); }
  if (event.key === "/") { event.preventDefault(); byId("t-text").focus(); }
});

function drawFigures() {
  drawFronts();
  drawEffects();
}

setUpTables();
setUpFronts();
setUpEffects();
drawFigures();
// For benchmarks: every control responds from now on.
performance.mark("vice-interactive");
