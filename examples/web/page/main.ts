/** The page: shows what its worker tells, and asks it for work. */
import type { Slot, ToPage, ToWorker } from '../messages.js'
import { filesOfDrop } from './dropped-files.js'

const find = <T extends HTMLElement>(id: string) => document.getElementById(id) as T
const worker = new Worker('worker.js', { type: 'module' })
const ask = (message: ToWorker) => worker.postMessage(message)

const start = find<HTMLButtonElement>('start')
const go = find<HTMLButtonElement>('go')
const folder = find<HTMLInputElement>('folder')

let working: ToWorker['kind'] | undefined
let began = 0
let writable = false
let quantizable = false
const figures: Record<string, readonly [string, string, string]> = {}

begin('open', { kind: 'open', files: null })

find('quantize').addEventListener('submit', (event) => {
  event.preventDefault()
  if (working !== undefined) return ask({ kind: 'stop' })
  const codebooks = find<HTMLSelectElement>('codebooks').value === 'trellis' ? 'trellis' : 'plain'
  const room = find('quantize').clientWidth
  begin('quantize', {
    kind: 'quantize',
    bits: Number(find<HTMLSelectElement>('bits').value),
    codebooks,
    width: Math.max(240, Math.min(900, room)),
  })
})

find('write').addEventListener('submit', (event) => {
  event.preventDefault()
  if (working !== undefined) return ask({ kind: 'stop' })
  for (const slot of ['plain', 'quantized'] as const) {
    find(`${slot}-text`).textContent = ''
    find(`${slot}-speed`).textContent = ''
  }
  begin('write', {
    kind: 'write',
    prompt: find<HTMLInputElement>('prompt').value || 'The',
    temperature: Number(find<HTMLInputElement>('temperature').value),
  })
})

folder.addEventListener('change', () => openFiles(Array.from(folder.files ?? [])))
const drop = find('drop')
drop.addEventListener('dragover', (event) => {
  event.preventDefault()
  drop.classList.add('over')
})
drop.addEventListener('dragleave', () => drop.classList.remove('over'))
drop.addEventListener('drop', async (event) => {
  event.preventDefault()
  drop.classList.remove('over')
  if (event.dataTransfer) openFiles(await filesOfDrop(event.dataTransfer))
})

function openFiles(files: readonly File[]): void {
  if (working === undefined && files.length > 0) begin('open', { kind: 'open', files })
}

worker.onerror = ({ message }) => showTrouble(message)
worker.onmessage = ({ data }: { readonly data: ToPage }) => {
  switch (data.kind) {
    case 'ready':
      find('environment').textContent = environment(data.threads)
      break
    case 'opened':
      showModel(data)
      break
    case 'progress':
      showProgress(data.step, data.done)
      break
    case 'layer':
      showLayer(data)
      break
    case 'quantized':
      setFigure('size', 'weights', bytes(data.bytesBefore), bytes(data.bytes))
      setFigure(
        'bits',
        'bits per weight of the layers',
        bits((8 * data.bytesBefore) / weights),
        bits(data.bitsPerValue),
      )
      find('verdict').textContent = `quantized in ${data.seconds.toFixed(1)} s`
      break
    case 'scored':
      setFigure('perplexity', 'perplexity', data.perplexityBefore.toFixed(2), data.perplexity.toFixed(2))
      setFigure('divergence', 'divergence (KL), nats per token', '0', data.divergence.toFixed(4))
      setFigure('agreement', 'same likeliest next token', '100 %', `${(100 * data.agreement).toFixed(1)} %`)
      break
    case 'text':
      find(`${data.slot}-text`).textContent = data.text
      find(`${data.slot}-speed`).textContent = speed(data.tokens, data.seconds)
      break
    case 'done':
      end(data.work)
      break
    case 'failed':
      showTrouble(data.message)
      end(data.work)
  }
}

let weights = 1

function environment(threads: number): string {
  if (threads > 1) return `It uses ${threads} threads.`
  return crossOriginIsolated
    ? 'It uses one thread, for this device has one core.'
    : 'It uses one thread: this server does not isolate the page (see the guide).'
}

function begin(kind: ToWorker['kind'], message: ToWorker): void {
  working = kind
  began = performance.now()
  find('trouble').hidden = true
  if (kind === 'quantize') {
    find('result').hidden = true
    for (const name of Object.keys(figures)) delete figures[name]
    showProgress('beginning', 0)
  }
  update()
  ask(message)
}

function end(kind: ToWorker['kind']): void {
  working = undefined
  if (kind !== 'write') find('working').hidden = true
  update()
  document.body.dataset.done = kind
}

function update(): void {
  folder.disabled = working !== undefined
  start.disabled = !quantizable || (working !== undefined && working !== 'quantize')
  start.textContent = working === 'quantize' ? 'Stop' : 'Quantize'
  go.disabled = !writable || (working !== undefined && working !== 'write')
  go.textContent = working === 'write' ? 'Stop' : 'Write'
  delete document.body.dataset.done
}

function showTrouble(message: string): void {
  find('trouble').textContent = message
  find('trouble').hidden = false
}

function showModel(model: Extract<ToPage, { kind: 'opened' }>): void {
  writable = true
  if (model.slot === 'plain') {
    quantizable = true
    weights = model.weights
  }
  const facts = {
    name: model.name,
    architecture: model.architecture,
    weights: `${(model.weights / 1e6).toFixed(1)} million`,
    size: bytes(model.bytes),
    'bits per weight': bits(model.bitsPerValue),
  }
  const rows = Object.entries(facts).map(([term, value]) => {
    const row = document.createElement('div')
    row.append(element('dt', term), element('dd', value))
    return row
  })
  find('model-facts').replaceChildren(...rows)
  clearSlot(model)
}

/** What was there of another model says nothing of this one. */
function clearSlot({
  slot,
  bytes: size,
  bitsPerValue,
  comparable,
}: Extract<ToPage, { kind: 'opened' }>): void {
  for (const name of Object.keys(figures)) delete figures[name]
  find('result').hidden = true
  find('verdict').textContent = ''
  for (const id of ['codebook-figure', 'bars-figure']) find(id).hidden = true
  for (const each of ['plain', 'quantized'] as const satisfies readonly Slot[]) {
    find(`${each}-text`).textContent = ''
    find(`${each}-speed`).textContent = ''
  }
  if (slot !== 'quantized') return
  setFigure('size', 'weights', comparable ? bytes(weights * 2) : 'not known', bytes(size))
  setFigure('bits', 'bits per weight of the layers', comparable ? bits(16) : 'not known', bits(bitsPerValue))
}

function showProgress(step: string, done: number): void {
  find('working').hidden = false
  find<HTMLProgressElement>('bar').value = done
  find('step').textContent = step
  const seconds = ((performance.now() - began) / 1000) * ((1 - done) / Math.max(done, 1e-6))
  find('left').textContent = done > 0.08 ? `about ${Math.max(1, Math.round(seconds))} s left` : ''
}

function showLayer({
  name,
  number,
  of,
  bitsPerValue,
  relativeError,
  picture,
  bars,
}: Extract<ToPage, { kind: 'layer' }>): void {
  find('codebook-figure').hidden = picture === ''
  // drawn by this page's own code from numbers: no text of a file stands in it unescaped
  find('codebook').innerHTML = picture
  const error = relativeError === null ? '' : `, relative error ${relativeError.toPrecision(3)}`
  find('codebook-caption').textContent =
    `Layer ${number} of ${of}: ${name}, ${bits(bitsPerValue)} bits per weight${error}`
  find('bars-figure').hidden = false
  find('bars').innerHTML = bars
}

function setFigure(key: string, label: string, before: string, after: string): void {
  figures[key] = [label, before, after]
  const rows = Object.values(figures).map(([head, ...cells]) => {
    const row = document.createElement('tr')
    const first = element('th', head)
    first.setAttribute('scope', 'row')
    row.append(first, ...cells.map((cell) => element('td', cell)))
    return row
  })
  find('figures').replaceChildren(...rows)
  find('result').hidden = false
}

function element(tag: string, text: string): HTMLElement {
  const made = document.createElement(tag)
  made.textContent = text
  return made
}

function bytes(count: number): string {
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(2)} MB`
}

function bits(count: number): string {
  return count.toFixed(2)
}

function speed(tokens: number, seconds: number): string {
  return seconds > 0 && tokens > 1 ? `${(tokens / seconds).toFixed(0)} tokens a second` : ''
}
