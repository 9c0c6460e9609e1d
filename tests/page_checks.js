// What is wrong with a page, as a list of sentences; evaluated by tests/browser.py.

function faults() {
  const found = [], root = document.documentElement, all = what => document.querySelectorAll(what);
  const say = (what, node) => found.push(what + ": " + node.outerHTML.slice(0, 120));
  if (root.scrollWidth > root.clientWidth) {
    found.push("the page is " + root.scrollWidth + " wide in a window of " + root.clientWidth);
    for (const node of all("body *"))
      if (node.getBoundingClientRect().right > root.clientWidth + 1 && !node.closest(".box, .table-wrapper, pre")) {
        say("reaches over the edge", node);
        break;
      }
  }
  for (const box of all(".box, .table-wrapper"))
    if (box.scrollWidth > box.clientWidth + 1)
      say("cut off by " + (box.scrollWidth - box.clientWidth), box.querySelector("tr"));
  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) say("does not load", image);
    if (!image.alt.trim()) say("no alternative text", image);
  }
  if (!root.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  if (all("h1").length != 1) found.push("there must be one h1");
  let level = 0;
  for (const head of all("h1, h2, h3, h4, h5, h6")) {
    const own = Number(head.tagName[1]);
    if (own > level + 1) say("a level is left out before", head);
    if (!head.textContent.trim()) say("empty heading", head);
    level = own;
  }
  const ids = [...all("[id]")].map(node => node.id);
  if (new Set(ids).size != ids.length) found.push("an id stands twice");
  for (const head of all("th")) if (!head.textContent.trim()) say("empty header", head);
  for (const box of all("[role=region]")) if (!box.getAttribute("aria-label")) say("no label", box);
  const named = node => node.textContent.trim() || node.getAttribute("aria-label") || node.title ||
    node.querySelector("img[alt]") || (node.labels && [...node.labels].some(l => l.textContent.trim()));
  for (const link of all("a[href]")) if (!named(link)) say("a link without words", link);
  for (const field of all("button, select, textarea, input:not([type=hidden])"))
    if (!named(field)) say("a field without a label", field);
  return found;
}

// WCAG 2.2, 1.4.3: at least 4.5, or 3 for large letters
function contrast() {
  const numbers = text => (text.match(/[\d.]+/g) || []).map(Number);
  const linear = x => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const luminance = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(x => linear(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = node => {
    for (let at = node; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length && (colour.length < 4 || colour[3] > 0.99)) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const worst = {};
  for (const node of document.querySelectorAll("body *")) {
    const words = [...node.childNodes].filter(n => n.nodeType == 3 && n.textContent.trim());
    if (!words.length || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), behind = ground(node), size = parseFloat(style.fontSize);
    const [a, b] = [luminance(numbers(style.color)), luminance(behind)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5))
      worst[style.color + behind] = "contrast " + ratio.toFixed(2) + ": " + node.outerHTML.slice(0, 100);
  }
  return Object.values(worst);
}
