// Elements. Texts become text, never markup: nothing on this page is ever parsed as HTML.

/** Returns an element. Attributes that are functions listen; those that are null or false are left out. */
function element(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** Returns an element of a drawing. */
function shape(name, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function byId(name) {
  return document.getElementById(name);
}

/** Fills a box anew; its table of numbers stays open if it was. */
function refill(box, ...children) {
  const wasOpen = box.querySelector("details")?.open ?? false;
  box.replaceChildren(...children);
  const made = box.querySelector("details");
  if (made) made.open = wasOpen;
}

/** Draws into a box now, and again whenever its width or the colours change. `draw` is given the width in pixels. */
function keepDrawn(box, draw) {
  let width = 0;
  const redraw = () => draw(box.clientWidth - 2 * parseFloat(getComputedStyle(box).paddingLeft));
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    redraw();
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
