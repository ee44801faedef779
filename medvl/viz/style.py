"""The report's style sheet: light and dark, wide and narrow, screen and print."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #1b2027; --quiet: #5a6472; --rule: #dfe3e8; --accent: #0b6bcb;
  --warn: #7a4b00; --warn-page: #fff4dc;
  --s0: #0b6bcb; --s1: #c2570c; --s2: #0a7a55; --s3: #a8328a;
  --s4: #7a6a00; --s5: #3d8fb5; --s6: #8a4b2a; --s7: #555;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1b2129; --ink: #e8ecf1; --quiet: #a2adba; --rule: #313a45; --accent: #6db3ff;
    --warn: #ffd58a; --warn-page: #33280f;
    --s0: #6db3ff; --s1: #ff9f4a; --s2: #54d3a4; --s3: #f08cd6;
    --s4: #e0cc4a; --s5: #7fd3f2; --s6: #d69a77; --s7: #bbb;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 44px 0 12px; }
h3 { font-size: 1rem; margin: 24px 0 10px; }
p { margin: 8px 0; }
.quiet, small { color: var(--quiet); }
.notice {
  margin: 18px 0 0; padding: 10px 14px; border-left: 4px solid currentColor; border-radius: 4px;
  background: var(--warn-page); color: var(--warn);
}
.card, .chart, .case { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px; }

.tiles { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); margin: 26px 0 0; }
.tiles div { display: flex; flex-direction: column; }
.tiles dt { color: var(--quiet); font-size: .9rem; order: 1; }
.tiles dd { margin: 0; white-space: nowrap; }
.tiles .figure { font-size: 2.1rem; font-weight: 650; line-height: 1.2; margin-right: 6px; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: 10px; }
th, td { padding: 8px 10px; text-align: right; border-top: 1px solid var(--rule); vertical-align: top; }
thead th { border-top: 0; color: var(--quiet); font-weight: 600; font-size: .88rem; white-space: nowrap; }
th[scope=row] { text-align: left; font-weight: 500; white-space: nowrap; }
tr.part th[scope=row] { padding-left: 28px; color: var(--quiet); }
td small { display: block; font-size: .78rem; white-space: nowrap; }
.facts td { text-align: left; width: 100%; overflow-wrap: anywhere; }
.facts tr:first-child > * { border-top: 0; }

.pair { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
figure { margin: 0; }
.chart figcaption { font-weight: 600; }
.chart svg { display: block; width: 100%; height: auto; margin-top: 6px; }
.keys {
  list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 4px 0 0; padding: 0;
  font-size: .88rem; color: var(--quiet);
}
.key {
  display: inline-block; width: 20px; height: 0; margin: 0 6px 4px 0;
  border-top: 3px solid var(--c); vertical-align: middle;
}
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
.line { fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round; }
.dot { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.grid { stroke: var(--rule); }
.marker { stroke: var(--quiet); stroke-dasharray: 4 4; }
.tick, .axis { fill: var(--quiet); font-size: 12px; }

.cases { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); }
.case { overflow: hidden; padding: 0; }
.case .frame {
  display: flex; align-items: center; justify-content: center; height: 300px; background: #0b0d10; color: #a2adba;
}
.case img { display: block; max-width: 100%; max-height: 100%; }
.case figcaption { padding: 10px 12px 12px; font-size: .93rem; overflow-wrap: anywhere; }
.case q { display: block; quotes: none; }
.case small { display: block; margin-top: 4px; }
.legend span { margin-right: 20px; }
.legend i { display: inline-block; width: 36px; height: 18px; margin: 0 6px -4px 0; background: #3c4046; }
.legend .gold { border: 2px dashed #2ed6a0; }
.legend .found { border: 2px solid #ff9500; }

details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; }
details[open] > summary { margin-bottom: 12px; }
details .card { border: 0; padding: 0; }
pre { overflow: auto; max-height: 480px; margin: 0; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
dl.terms { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; font-size: .93rem; }
dl.terms dt { font-weight: 600; }
dl.terms dd { margin: 0; color: var(--quiet); }
@media (max-width: 560px) {
  dl.terms { grid-template-columns: 1fr; }
  dl.terms dd { margin-bottom: 6px; }
}
@media print {
  body { background: #fff; }
  .case, .chart, .card { break-inside: avoid; }
}
"""
