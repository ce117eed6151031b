// The keys of a study's page; then its tables and figures are set up.
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
// For benchmarks: from here on every control answers.
performance.mark("vice-interactive");
