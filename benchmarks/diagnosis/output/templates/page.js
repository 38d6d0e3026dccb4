"use strict";
// Ticks, and the configuration for `interp-bench amend` that they make.
const boxes = Array.from(document.querySelectorAll("[data-choice]"));
const text = document.getElementById("configuration");

const amendConfiguration = () => {
  const amend = boxes.filter((box) => box.checked).map((box) => JSON.parse(box.dataset.choice));
  return JSON.stringify({ findings: text.dataset.file, amend }, null, 2) + "\n";
};

const update = () => {
  const count = boxes.filter((box) => box.checked).length;
  const counted = count === 1 ? "1 finding ticked" : `${count || "No"} finding${count ? "s" : ""} ticked`;
  document.getElementById("count").textContent = counted;
  document.getElementById("download").disabled = count === 0;
  text.textContent = count ? amendConfiguration() : "";
  for (const box of boxes) box.closest("article").classList.toggle("ticked", box.checked);
};

// A link such as index.html#tick=1,3 ticks findings.
const tickFromAddress = () => {
  const numbers = location.hash.startsWith("#tick=") ? location.hash.slice(6).split(",").map(Number) : [];
  for (const box of boxes) box.checked = box.checked || numbers.includes(JSON.parse(box.dataset.choice).finding);
  update();
};

for (const box of boxes) {
  box.addEventListener("change", update);
  box.closest("p").hidden = false;
}
document.getElementById("bar").hidden = boxes.length === 0;
document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.download = "amend.json";
  link.href = URL.createObjectURL(new Blob([amendConfiguration()], { type: "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
});
addEventListener("hashchange", tickFromAddress);
addEventListener("pageshow", update); // the browser may restore ticks
tickFromAddress();
globalThis.amendConfiguration = amendConfiguration;
