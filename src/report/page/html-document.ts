import { html, type Markup, trusted } from '../drawing/markup.js'
import { reportScript } from './report-script.js'
import { reportStyle } from './report-style.js'

/** A page of this package around what stands in its `main`: complete in one file, with its style and script. */
export function htmlDocument(title: string, generator: string, main: Markup): string {
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="${generator}">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${trusted(reportStyle)}</style>
</head>
<body>
<main>
${main}</main>
<script>${trusted(reportScript)}</script>
</body>
</html>
`
  return page.markup
}
