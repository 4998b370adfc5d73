import { pictureStyle } from '../drawing/canvas.js'
import { schemeRules } from '../drawing/theme.js'

/** Widths that pictures are drawn in, and below which screen width the narrow ones are shown. */
export const widths = { full: 880, half: 430, narrow: 328, breakpoint: 700 } as const

/** A sign that screen readers pass over; they are told the order by `aria-sort`. */
const sign = (text: string) => `content:"${text}";content:"${text}"/""`

/** The style of a report; colours follow the reader's scheme, print is always light. */
export const reportStyle = `${schemeRules(':root')}${pictureStyle}
*{box-sizing:border-box}
html{color-scheme:light dark;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
body{margin:0}
main{max-width:${widths.full + 32}px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 8px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:40px 0 12px;padding-top:16px;border-top:1px solid var(--line)}
p{margin:0 0 12px}
.lead,.note,footer{color:var(--muted)}
.note{font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 0}
.cards div{border:1px solid var(--line);border-radius:8px;padding:10px 12px}
.cards dt{font-size:.85rem;color:var(--muted)}
.cards dd{margin:0}
.cards .figure{font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
.cards .more{font-size:.85rem;color:var(--muted);overflow-wrap:anywhere}
.pairs{display:grid;grid-template-columns:max-content 1fr;gap:2px 20px;margin:0}
.pairs dt{color:var(--muted)}
.pairs dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:5px 8px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:bottom}
th:first-child,td:first-child,.text{text-align:left}
td:first-child,tbody th{white-space:normal;font-weight:400;overflow-wrap:anywhere}
.sortable{width:100%}
.sortable td:first-child{min-width:18em}
tfoot td,tfoot th{font-weight:600;border-bottom:0}
thead th{font-weight:600}
thead button{font:inherit;color:inherit;background:none;border:0;margin:0;padding:2px 1em 2px 0;cursor:pointer;text-align:inherit;white-space:normal;position:relative}
thead button::after{content:"";position:absolute;right:0;bottom:2px;width:1em;text-align:center}
th[aria-sort] button::after{${sign('↕')};color:var(--muted)}
th[aria-sort=ascending] button::after{${sign('↑')};color:inherit}
th[aria-sort=descending] button::after{${sign('↓')};color:inherit}
button:focus-visible,.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--series-1);outline-offset:2px}
.bar{display:block;height:12px;min-width:1px;background:var(--series-1)}
.bar.before{background:var(--series-7)}
td.text{white-space:normal}
@media screen and (min-width:960px){
.layers{--room:min(1240px,100vw - 48px);width:var(--room);margin-left:calc(50% - var(--room)/2)}
.sortable td.text:not(:first-child){min-width:13em}
}
.scroll+.note{margin-top:12px}
.bars{width:45%;min-width:90px}
figure{margin:0 0 20px}
.gptvq-picture{display:block;max-width:100%;height:auto}
.grid{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:20px}
.grid figure{margin:0}
pre{border:1px solid var(--line);border-radius:8px;padding:12px;margin:0 0 12px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.9rem}
.flag{display:inline-block;max-width:100%}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{font-size:.85rem;margin-top:40px}
.narrow{display:none}
@media screen and (max-width:${widths.breakpoint - 1}px){
.wide{display:none}
.narrow{display:block}
.grid{grid-template-columns:minmax(0,1fr)}
.minor{display:none}
.sortable td:first-child{min-width:9.5em}
th,td{padding:5px 3px}
table{font-size:.82rem}
h1{font-size:1.3rem}
.cards{grid-template-columns:repeat(2,minmax(0,1fr))}
}
@media print{
main{max-width:none;padding:0}
h2,h3{break-after:avoid}
figure,.cards div,tr,pre{break-inside:avoid}
.bar{print-color-adjust:exact;-webkit-print-color-adjust:exact}
thead button::after{content:none!important}
.scroll{overflow:visible}
}`
