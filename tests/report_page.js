// What a reader would stumble over in a report's page: run in the page by test_report_pages.py, every fold opened.
() => {
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  const column = document.querySelector("main").clientWidth;
  const name = (element) => `${element.tagName.toLowerCase()} ${element.textContent.trim().slice(0, 40)}`;
  const found = { tables: [], images: [], labels: [], contrast: [], targets: [] };

  for (const table of document.querySelectorAll("table")) {
    const scroller = table.closest(".scroll");
    const outer = scroller && scroller.getBoundingClientRect();
    const inner = table.getBoundingClientRect();
    const held = scroller && inner.left >= outer.left - 1 && inner.right <= outer.left + scroller.clientLeft + scroller.scrollWidth + 1;
    const whole = [...table.querySelectorAll("th, td")].every((cell) => cell.scrollWidth <= cell.clientWidth + 1);
    const scrolls = scroller && ["auto", "scroll"].includes(getComputedStyle(scroller).overflowX);
    const inSight = scroller && outer.right <= document.documentElement.clientWidth + 1;
    if (!held || !whole || !scrolls || !inSight || scroller.tabIndex !== 0) found.tables.push(name(table));
  }

  for (const image of document.querySelectorAll("main img")) {
    const shown = image.clientWidth;
    const share = shown / image.naturalWidth;
    const rim = 16; // of the white card in dark mode
    const narrow = shown + 1 < Math.min(image.naturalWidth, column - rim);
    const unreadable = innerWidth >= 1000 && share < 0.6;
    if (narrow || unreadable || !image.naturalWidth) found.images.push(`${image.alt}: ${shown} of ${image.naturalWidth}`);
    if (image.alt.trim().length < 20) found.labels.push(`image ${image.alt}`);
  }
  for (const region of document.querySelectorAll("[role=region], nav, dialog")) {
    if (!region.getAttribute("aria-label")) found.labels.push(name(region));
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    if (!document.getElementById(link.getAttribute("href").slice(1))) found.targets.push(link.getAttribute("href"));
  }

  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let read = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const hidden = ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility();
    if (hidden || !texts.currentNode.data.trim()) continue;
    read += 1;
    const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.contrast.push(`${name(element)}: ${ratio.toFixed(2)}`);
  }
  const counts = { read, tables: document.querySelectorAll("table").length, images: document.querySelectorAll("main img").length };
  const sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return { ...found, sideways, counts };
}
