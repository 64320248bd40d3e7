// Script of map.html (nbs/mapping/16_page.ipynb). Text that comes from files reaches the page as text only (textContent), never as HTML.
'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent);
const find = id => document.getElementById(id);
const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
const isNarrow = () => matchMedia('(max-width: 800px)').matches;

// A new element with a text and attributes.
function make(tag, text = '', attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// ---------------------------------------------------------------- EPSG:3413
// The pole is at (0, 0), parallels are circles around it, the meridian of 45° W goes straight down.

// The value of `ys` at `x`, on straight lines between the points of a table whose `xs` rise or fall.
function interpolate(xs, ys, x) {
  const rises = xs[xs.length - 1] > xs[0];
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((xs[middle] <= x) === rises) low = middle;
    else high = middle;
  }
  const share = Math.min(1, Math.max(0, (x - xs[low]) / (xs[high] - xs[low])));
  return ys[low] + share * (ys[high] - ys[low]);
}

function toDegrees([x, y]) {
  const longitude = Math.atan2(x, -y) * 180 / Math.PI - 45;
  return [(longitude + 540) % 360 - 180, interpolate(data.polar.radius, data.polar.latitude, Math.hypot(x, y))];
}

function toMetres([longitude, latitude]) {
  const radius = interpolate(data.polar.latitude, data.polar.radius, latitude);
  const angle = (longitude + 45) * Math.PI / 180;
  return [radius * Math.sin(angle), -radius * Math.cos(angle)];
}

const projection = new ol.proj.Projection({
  code: 'EPSG:3413',
  units: 'm',
  extent: data.around,
  getPointResolution: (resolution, point) =>  // metres on the ground, for the scale bar
    resolution / interpolate(data.polar.radius, data.polar.scale, Math.hypot(point[0], point[1])),
});

// ---------------------------------------------------------------- styles
const COLOURS = ['#f0e442', '#56b4e9', '#e99ac6', '#e69f00', '#2fc79a', '#ffffff'];
const DASHES = [[], [11, 4], [3, 5]];
const CORNERS = [0, 4, 3];  // of a dot: circle, square, triangle
const RADIUS = data.detections.length > 500 ? 4 : 6;  // of a dot, pixels
const SMALL = 9;  // pixels: what is smaller is drawn as a dot
const DASHED = 30;  // pixels: what is smaller has no dashes

const colourOf = kind => COLOURS[kind % COLOURS.length];
const stroke = (color, width, lineDash) => new ol.style.Stroke({color, width, lineDash});

function dotStyle(kind, isLit) {
  const corners = CORNERS[kind % CORNERS.length];
  const look = {
    radius: isLit ? 9 : RADIUS,
    fill: new ol.style.Fill({color: colourOf(kind)}),
    stroke: stroke('#000000', isLit ? 3 : 1.5),
  };
  const image = corners ? new ol.style.RegularShape({...look, points: corners, angle: corners === 4 ? Math.PI / 4 : 0})
    : new ol.style.Circle(look);
  return new ol.style.Style({
    image,
    geometry: feature => new ol.geom.Point(ol.extent.getCenter(feature.getGeometry().getExtent())),
    zIndex: isLit ? 2 : 1,
  });
}

function outlineStyles(kind, isLit, hasDashes) {
  const zIndex = isLit ? 2 : 1;
  const fill = new ol.style.Fill({color: isLit ? 'rgba(255, 255, 255, .12)' : 'rgba(255, 255, 255, .01)'});
  return [
    new ol.style.Style({fill, stroke: stroke(isLit ? '#ffffff' : 'rgba(0, 0, 0, .75)', isLit ? 7 : 3.8), zIndex}),
    new ol.style.Style({stroke: stroke(isLit ? '#000000' : colourOf(kind), isLit ? 4.5 : 2, hasDashes && !isLit ? DASHES[kind % 3] : []), zIndex}),
    ...(isLit ? [new ol.style.Style({stroke: stroke(colourOf(kind), 2.5), zIndex})] : []),
  ];
}

const styles = [false, true].map(isLit =>
  data.classes.map((_, kind) => ({
    dot: dotStyle(kind, isLit),
    small: outlineStyles(kind, isLit, false),
    large: outlineStyles(kind, isLit, true),
  })));

function textStyle(text, more = {}) {
  return new ol.style.Text({
    text,
    font: '600 12px system-ui, sans-serif',
    fill: new ol.style.Fill({color: '#ffffff'}),
    stroke: stroke('#000000', 3),
    ...more,
  });
}

// ---------------------------------------------------------------- layers
let lit = null;  // number of the detection under the pointer
let chosen = null;  // number of the detection that was chosen

// A ring from the steps between its corners, in decimetres.
function decodeRing(steps) {
  const ring = [];
  let x = 0;
  let y = 0;
  for (let k = 0; k < steps.length; k += 2) {
    x += steps[k];
    y += steps[k + 1];
    ring.push([x / 10, y / 10]);
  }
  return ring;
}

const features = data.detections.map((detection, k) => {
  const feature = new ol.Feature({geometry: new ol.geom.Polygon(detection.outline.map(decodeRing))});
  feature.setId(k);
  return feature;
});

function styleDetection(feature, resolution) {
  const k = feature.getId();
  const look = styles[Number(k === lit || k === chosen)][data.detections[k].kind];
  const [x0, y0, x1, y1] = feature.getGeometry().getExtent();
  const pixels = Math.max(x1 - x0, y1 - y0) / resolution;
  if (pixels < SMALL) return look.dot;
  return pixels < DASHED ? look.small : look.large;
}

const outlines = new ol.source.Vector({features});

const cells = new ol.source.Vector({features: data.cells.map(([x, y, n]) => {
  const feature = new ol.Feature({geometry: boxOf([x, y, x + data.cell, y + data.cell])});
  feature.set('n', n);
  return feature;
})});
const fullest = data.cells.reduce((most, [, , n]) => Math.max(most, n), 1);

function boxOf([x0, y0, x1, y1]) {
  return new ol.geom.Polygon([[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]);
}

function styleCell(feature, resolution) {
  const n = feature.get('n');
  return new ol.style.Style({
    fill: data.cell / resolution > 1500 ? undefined  // a single square would tint the whole view
      : new ol.style.Fill({color: `rgba(213, 94, 0, ${0.12 + 0.5 * Math.sqrt(n / fullest)})`}),
    stroke: stroke('rgba(255, 255, 255, .35)', 1),
  });
}

function styleCount(feature, resolution) {
  return data.cell / resolution > 26
    ? new ol.style.Style({text: textStyle(String(feature.get('n')), {overflow: true})}) : undefined;
}

const expectedCells = new ol.source.Vector({features: data.expected.map(([x, y, ha]) => {
  const feature = new ol.Feature({geometry: boxOf([x, y, x + data.cell, y + data.cell])});
  feature.set('ha', ha);
  return feature;
})});
const mostExpected = data.expected.reduce((most, [, , ha]) => Math.max(most, ha), 1e-9);

function styleExpected(feature, resolution) {
  const ha = feature.get('ha');
  const text = data.cell / resolution > 60 ? textStyle(`${ha.toPrecision(3)} ha`, {overflow: true}) : undefined;
  return new ol.style.Style({
    fill: new ol.style.Fill({color: `rgba(0, 114, 178, ${0.05 + 0.5 * Math.sqrt(ha / mostExpected)})`}),
    stroke: stroke('rgba(255, 255, 255, .35)', 1),
    text,
  });
}

const sceneBoxes = new ol.source.Vector({features: data.scenes.map(scene => {
  const feature = new ol.Feature({geometry: boxOf(scene.box)});
  feature.set('name', scene.name);
  return feature;
})});

function styleScene(feature, resolution) {
  const [x0, y0, x1, y1] = feature.getGeometry().getExtent();
  const frame = new ol.style.Style({stroke: stroke('rgba(255, 255, 255, .8)', 1)});
  if (Math.max(x1 - x0, y1 - y0) > 40 * resolution) return frame;
  const square = new ol.style.RegularShape({points: 4, radius: 11, angle: Math.PI / 4, stroke: stroke('#ffffff', 1.5)});
  return [frame, new ol.style.Style({
    geometry: new ol.geom.Point(ol.extent.getCenter([x0, y0, x1, y1])),
    image: square,
    text: textStyle(feature.get('name'), {offsetY: 18}),
  })];
}

const ground = new ol.style.Style({fill: new ol.style.Fill({color: 'rgba(0, 0, 0, .35)'})});

function pictures(kind, smooth) {
  const withOne = data.scenes.filter(scene => scene[kind]);
  return new ol.layer.Group({layers: withOne.map(scene => new ol.layer.Image({
    extent: scene.box,
    source: new ol.source.ImageStatic({url: scene[kind], imageExtent: scene.box, projection, interpolate: smooth}),
  }))});
}

const lines = new ol.source.Vector();
const layers = {
  imagery: pictures('imagery', true),
  probability: pictures('probability', false),
  density: new ol.layer.Vector({source: cells, style: styleCell}),
  expected: new ol.layer.Vector({source: expectedCells, style: styleExpected, visible: false}),
  scenes: new ol.layer.Vector({source: sceneBoxes, style: styleScene, declutter: 'scenes'}),
  graticule: new ol.layer.Vector({source: lines, declutter: 'lines'}),
  outlines: new ol.layer.Vector({source: outlines, style: styleDetection, updateWhileAnimating: data.detections.length < 1000}),
};
const counts = new ol.layer.Vector({source: cells, style: styleCount, declutter: 'counts'});
const shade = new ol.layer.Vector({source: sceneBoxes, style: ground});

// ---------------------------------------------------------------- the map
const view = new ol.View({
  projection,
  extent: data.around,
  constrainOnlyCenter: true,
  enableRotation: false,
  minResolution: 0.2,
  maxResolution: ol.extent.getWidth(data.around) / 600,
});
const tip = new ol.Overlay({element: find('tip'), stopEvent: false});
const map = new ol.Map({
  target: 'map',
  view,
  layers: [shade, layers.imagery, layers.probability, layers.expected, layers.density, layers.scenes, layers.graticule, layers.outlines, counts],
  controls: [new ol.control.Zoom(), new ol.control.ScaleLine({minWidth: 90})],
  overlays: [tip],
});

// Shows a window, with room for what lies over the map.
function show(extent, isAnimated = true) {
  const padding = isNarrow() ? [20, 20, 40, 20] : [30, 40, 50, 40];
  view.fit(extent, {padding, duration: isAnimated && !isCalm ? 450 : 0});
}

// A window around an extent, at least so many metres wide.
function widened(extent, least) {
  const [x, y] = ol.extent.getCenter(extent);
  const half = Math.max(ol.extent.getWidth(extent), ol.extent.getHeight(extent), least) / 2;
  return [x - half, y - half, x + half, y + half];
}

// ---------------------------------------------------------------- graticule and north
const STEPS = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

// The largest step that gives at least three lines over a range of degrees.
function chooseStep(range) {
  return STEPS.find(step => range / step >= 3) || STEPS[STEPS.length - 1];
}

function degreesText(value, hemispheres, step) {
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const rounded = Math.round((((value + 540) % 360) - 180) / step) * step;
  return `${Math.abs(rounded).toFixed(digits)}° ${hemispheres[Number(rounded >= 0)]}`;
}

// Longitudes (counted on from that of the centre) and latitudes that a window spans.
function degreesSpan([x0, y0, x1, y1]) {
  const n = 12;
  const middle = toDegrees([(x0 + x1) / 2, (y0 + y1) / 2])[0];
  const points = [];
  for (let k = 0; k <= n; k++) {
    const x = x0 + (x1 - x0) * k / n;
    const y = y0 + (y1 - y0) * k / n;
    points.push([x, y0], [x, y1], [x0, y], [x1, y]);
  }
  const degrees = points.map(toDegrees);
  const longitudes = degrees.map(([longitude]) => (longitude - middle + 540) % 360 - 180 + middle);
  const latitudes = degrees.map(([, latitude]) => latitude);
  const hasPole = x0 < 0 && x1 > 0 && y0 < 0 && y1 > 0;
  return {
    west: hasPole ? -180 : Math.min(...longitudes),
    east: hasPole ? 180 : Math.max(...longitudes),
    south: Math.min(...latitudes),
    north: hasPole ? 90 : Math.max(...latitudes),
  };
}

function multiples(low, high, step) {
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(k * step);
  return found;
}

// A line with its name where it enters the window.
function addLine(points, name, window) {
  lines.addFeature(new ol.Feature({geometry: new ol.geom.LineString(points)}));
  const entry = points.find(point => ol.extent.containsCoordinate(window, point));
  if (!entry) return;
  const label = new ol.Feature({geometry: new ol.geom.Point(entry)});
  label.setStyle(new ol.style.Style({text: textStyle(name, {font: '12px system-ui, sans-serif'})}));
  lines.addFeature(label);
}

const range = (low, high, n) => Array.from({length: n + 1}, (_, k) => low + (high - low) * k / n);

function drawGraticule() {
  const resolution = view.getResolution();
  const [width, height] = map.getSize();
  const [x, y] = view.getCenter();
  const box = (w, h) => [x - w * resolution / 2, y - h * resolution / 2, x + w * resolution / 2, y + h * resolution / 2];
  const [x0, y0, x1, y1] = box(width, height);
  // names keep clear of what lies over the map: zoom and arrow at the left, scale bar at the bottom
  const window = [x0 + 100 * resolution, y0 + 60 * resolution, x1 - 50 * resolution, y1 - 20 * resolution];
  const seen = degreesSpan(box(width, height));
  const drawn = degreesSpan(box(2 * width, 2 * height));  // so that a map that is moved has lines
  const steps = [chooseStep(seen.east - seen.west), chooseStep(seen.north - seen.south)];
  const northern = Math.min(drawn.north, 90 - steps[1] / 2);
  lines.clear(true);
  for (const longitude of multiples(drawn.west, drawn.east - 1e-6, steps[0])) {
    const points = range(drawn.south, northern, 300).map(latitude => toMetres([longitude, latitude]));
    addLine(points, degreesText(longitude, 'WE', steps[0]), window);
  }
  for (const latitude of multiples(drawn.south, northern, steps[1])) {
    const points = range(drawn.west, drawn.east, 300).map(longitude => toMetres([longitude, latitude]));
    addLine(points, degreesText(latitude, 'SN', steps[1]), window);
  }
}
layers.graticule.setStyle(new ol.style.Style({stroke: stroke('rgba(255, 255, 255, .55)', 1, [3, 4])}));

const arrow = document.querySelector('#north g');
function turnNorth() {
  const [x, y] = view.getCenter();
  arrow.setAttribute('transform', `rotate(${(Math.atan2(-x, -y) * 180 / Math.PI).toFixed(2)})`);
}
view.on('change:center', turnNorth);
map.on('moveend', drawGraticule);

// ---------------------------------------------------------------- hover
const number = (value, digits) =>
  value.toLocaleString('en', {minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: digits === 0});

function attributes(k) {
  const {properties, kind} = data.detections[k];
  const list = make('dl');
  const add = (name, value) => list.append(make('dt', name), make('dd', value));
  add('class', data.classes[kind].name);
  for (const [key, [name, unit, digits]] of Object.entries(data.tip)) {
    const value = properties[key];
    if (value === null || value === undefined || value === '') continue;
    let text = digits === null || typeof value !== 'number' ? String(value) : number(value, digits);
    const ends = [properties[`${key}_low`], properties[`${key}_high`]];
    if (ends.every(end => typeof end === 'number')) text += ` (${ends.map(end => number(end, digits)).join(' to ')})`;
    add(name, unit === '°' ? text + unit : `${text} ${unit}`.trim());
  }
  return list;
}

// Where a tip has room beside a point of the map.
function positioning([x, y]) {
  const [width, height] = map.getSize();
  const side = x < width / 3 ? 'left' : x > width * 2 / 3 ? 'right' : 'center';
  return `${y < height / 2 ? 'top' : 'bottom'}-${side}`;
}

const OFFSETS = {top: [0, 16], bottom: [0, -16], center: [16, 0]};

function showTip(title, content, coordinate, place = positioning(map.getPixelFromCoordinate(coordinate))) {
  find('tip').replaceChildren(make('b', title), ...content);
  find('tip').hidden = false;
  tip.setPositioning(place);
  tip.setOffset(OFFSETS[place.split('-')[0]]);
  tip.setPosition(coordinate);
}

// The tip of the chosen detection beside it, where there is room, or none.
function restTip() {
  if (chosen === null || !outlines.getFeatureById(chosen)) {
    tip.setPosition(undefined);
    return;
  }
  const [x0, y0, x1, y1] = features[chosen].getGeometry().getExtent();
  const [width, height] = map.getSize();
  const [right, middle] = map.getPixelFromCoordinate([x1, (y0 + y1) / 2]) || [0, 0];
  const title = data.detections[chosen].properties.rts_id;
  const content = [attributes(chosen)];
  if (right + 300 < width) showTip(title, content, [x1, (y0 + y1) / 2], 'center-left');
  else if (middle < height / 2) showTip(title, content, [(x0 + x1) / 2, y0], 'top-center');
  else showTip(title, content, [(x0 + x1) / 2, y1], 'bottom-center');
}

const hit = pixel => map.forEachFeatureAtPixel(pixel, feature => feature, {
  hitTolerance: 4,
  layerFilter: layer => layer === layers.outlines || layer === layers.density,
});

function point(event) {
  if (event.dragging) return;
  const [longitude, latitude] = toDegrees(event.coordinate);
  find('where').textContent = `${degreesText(latitude, 'SN', 1e-5)}, ${degreesText(longitude, 'WE', 1e-5)}`;
  const feature = hit(event.pixel);
  const k = feature ? feature.getId() ?? null : null;
  const wasLit = lit;
  lit = k;
  if (k !== wasLit) {
    layers.outlines.changed();
    markRows();
  }
  find('map').classList.toggle('pointing', Boolean(feature));
  if (k !== null) showTip(data.detections[k].properties.rts_id, [attributes(k)], event.coordinate);
  else if (feature) showTip(`${feature.get('n')} more detections`, [make('span', 'in this square, of lower mean probability')], event.coordinate);
  else restTip();
}

// ---------------------------------------------------------------- table
const CHUNK = 200;  // rows that are added at a time
const head = document.querySelector('#rows thead').insertRow();
const body = document.querySelector('#rows tbody');
let order = {key: 'mean_prob', isDown: true};
let rows = [];  // numbers of the detections that pass the filter, in order
let rowOf = new Map();  // number of a detection → its row, of those that were added

const SHAPES = ['M7 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z', 'M7.5 3.5H14.5V10.5H7.5Z', 'M11 2.5 15.5 10.5H6.5Z'];  // as the dots

// Line and dot of a class, as the map has them.
function mark(kind) {
  const draw = (tag, given) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
    return element;
  };
  const svg = draw('svg', {class: 'mark', viewBox: '0 0 22 14', 'aria-hidden': 'true'});
  const dashes = DASHES[kind % 3].map(length => length * 0.6).join(' ');
  svg.append(
    draw('path', {d: 'M1 7H21', stroke: colourOf(kind), 'stroke-width': 2.5, 'stroke-dasharray': dashes}),
    draw('path', {d: SHAPES[kind % 3], fill: colourOf(kind), stroke: '#000000'}),
  );
  return svg;
}

function cellText(value, digits) {
  if (value === null || value === undefined) return '–';
  return digits === null ? String(value) : number(value, digits);
}

function addRows(until) {
  const fragment = document.createDocumentFragment();
  for (let n = body.children.length; n < Math.min(until, rows.length); n++) {
    const k = rows[n];
    const row = make('tr', '', {'data-row': k});
    data.columns.forEach(({key, digits, is_minor: isMinor}, column) => {
      const cell = make('td', '', {class: `${digits === null ? '' : 'number'} ${isMinor ? 'minor' : ''}`});
      const text = cellText(data.detections[k].properties[key], digits);
      if (column === 0) {
        const button = make('button', '', {type: 'button', class: 'fly'});
        button.append(mark(data.detections[k].kind), make('span', text));
        cell.append(button);
      } else cell.textContent = text;
      row.append(cell);
    });
    rowOf.set(k, row);
    fragment.append(row);
  }
  body.append(fragment);
}

function markRows() {
  for (const row of body.querySelectorAll('[aria-current]')) row.removeAttribute('aria-current');
  for (const k of [lit, chosen]) rowOf.get(k)?.setAttribute('aria-current', 'true');
}

const collator = new Intl.Collator('en', {numeric: true});
function compare(a, b) {
  const [one, other] = [a, b].map(k => data.detections[k].properties[order.key] ?? null);
  if (one === null || other === null) return (one === null) - (other === null) || a - b;
  const difference = typeof one === 'number' ? one - other : collator.compare(String(one), String(other));
  return (order.isDown ? -difference : difference) || a - b;
}

const isShown = kind => document.querySelector(`#classes input[value="${kind}"]`).checked;

// Rows, outlines and count of what passes the filter.
function refresh() {
  const kinds = data.classes.map((_, kind) => isShown(kind));
  rows = data.detections.map((_, k) => k).filter(k => kinds[data.detections[k].kind]).sort(compare);
  outlines.clear(true);
  outlines.addFeatures(rows.map(k => features[k]));
  body.replaceChildren();
  rowOf = new Map();
  addRows(CHUNK);
  markRows();
  restTip();
  for (const cell of head.children) {
    const isKey = cell.dataset.key === order.key;
    cell.setAttribute('aria-sort', isKey ? (order.isDown ? 'descending' : 'ascending') : 'none');
  }
  find('count').textContent = data.detections.length
    ? `${rows.length.toLocaleString('en')} of ${data.detections.length.toLocaleString('en')} detections`
    : 'No slump was found on this map.';
  find('download').textContent = rows.length < data.detections.length ? 'Download these as GeoJSON' : 'Download as GeoJSON';
  find('download').disabled = !rows.length;
}

function choose(k, isFlying) {
  chosen = k;
  layers.outlines.changed();
  if (k !== null && !rowOf.has(k)) addRows(rows.indexOf(k) + CHUNK);
  markRows();
  if (k !== null && !isFlying) rowOf.get(k)?.scrollIntoView({block: 'nearest'});
  if (k === null || !isFlying) {
    restTip();
    return;
  }
  tip.setPosition(undefined);
  if (isNarrow()) find('map').scrollIntoView({block: 'start'});
  const extent = features[k].getGeometry().getExtent();
  show(widened(extent, 3 * Math.max(ol.extent.getWidth(extent), ol.extent.getHeight(extent), 150)));
  if (isCalm) restTip();
  else map.once('moveend', restTip);
}

for (const {key, label, title, digits, is_minor: isMinor} of data.columns) {
  const cell = make('th', '', {scope: 'col', 'data-key': key, class: `${digits === null ? '' : 'number'} ${isMinor ? 'minor' : ''}`});
  const button = make('button', label, {type: 'button', title});
  button.addEventListener('click', () => {
    order = {key, isDown: order.key === key ? !order.isDown : digits !== null};
    refresh();
  });
  cell.append(button);
  head.append(cell);
}

find('by').textContent = `Classes by ${data.classes_by}`;
data.classes.forEach(({name, meaning}, kind) => {
  const n = data.detections.filter(detection => detection.kind === kind).length;
  const label = make('label');
  const box = make('input', '', {type: 'checkbox', value: kind});
  box.checked = true;
  box.addEventListener('change', refresh);
  label.append(box, mark(kind), make('span', name), make('small', `${meaning} (${n.toLocaleString('en')})`.trim()));
  find('classes').append(label);
});

body.addEventListener('click', event => {
  const row = event.target.closest('tr');
  if (row) choose(Number(row.dataset.row), true);
});
body.addEventListener('keydown', event => {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  const row = event.target.closest('tr');
  if (!step || !row) return;
  event.preventDefault();
  (step > 0 ? row.nextElementSibling : row.previousElementSibling)?.querySelector('button').focus();
});
body.addEventListener('pointerover', event => {
  const row = event.target.closest('tr');
  lit = row ? Number(row.dataset.row) : null;
  layers.outlines.changed();
});
body.addEventListener('pointerleave', () => {
  lit = null;
  layers.outlines.changed();
});
find('rows').addEventListener('scroll', event => {
  const {scrollTop, clientHeight, scrollHeight} = event.target;
  if (scrollTop + clientHeight > scrollHeight - 600) addRows(body.children.length + CHUNK);
});

map.on('pointermove', point);
map.getViewport().addEventListener('pointerleave', () => {
  lit = null;
  find('where').textContent = '';
  layers.outlines.changed();
  markRows();
  restTip();
});
map.on('singleclick', event => choose(hit(event.pixel)?.getId() ?? null, false));

// ---------------------------------------------------------------- tools
find('home').addEventListener('click', () => show(data.opens));
find('all').addEventListener('click', () => show(widened(data.world, 1000)));
data.scenes.forEach(({name}, k) => find('scene').append(make('option', name, {value: k})));
find('scene').addEventListener('change', event => {
  if (event.target.value !== '') show(data.scenes[Number(event.target.value)].box);
});

find('download').addEventListener('click', () => {
  const chosenRows = rows.map(k => data.detections[k]);
  const collection = {
    type: 'FeatureCollection',
    features: chosenRows.map(({properties, geometry}) => ({type: 'Feature', id: properties.rts_id, geometry, properties})),
  };
  const url = URL.createObjectURL(new Blob([JSON.stringify(collection)], {type: 'application/geo+json'}));
  make('a', '', {href: url, download: 'rts.geojson'}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});

for (const box of document.querySelectorAll('[data-layer]')) {
  box.addEventListener('change', () => {
    layers[box.dataset.layer].setVisible(box.checked);
    if (box.dataset.layer === 'density') counts.setVisible(box.checked);
  });
}
if (find('opacity')) {
  const fade = () => {
    layers.probability.setOpacity(Number(find('opacity').value) / 100);
    find('percent').textContent = `${find('opacity').value} %`;
  };
  find('opacity').addEventListener('input', fade);
  fade();
  find('ramp').style.background = `linear-gradient(to right, ${data.colours.join(', ')})`;
  find('least').textContent = String(data.least);
}
if (isNarrow()) find('layers').open = false;

show(data.opens, false);
refresh();
turnNorth();
map.once('rendercomplete', () => { document.documentElement.dataset.ready = Math.round(performance.now()); });
window.rtsMap = map;  // for the console
})();
