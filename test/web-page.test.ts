import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { quantizeModel } from 'gptvq/model'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildWeb } from '../scripts/build-web.js'
import { serveWeb } from '../scripts/serve-web.js'
import { startBrowser, withoutBrowser } from './support/browser.js'

const tinyLlama = fileURLToPath(new URL('../examples/models/tiny-llama', import.meta.url))
const WIDTHS = [360, 1280]
/** Where screenshots go, to be looked at; none are made without. */
const { GPTVQ_SCREENSHOTS: screenshots } = process.env

describe.skipIf(withoutBrowser)('the page of examples/web', { timeout: 240_000 }, () => {
  let folder: string
  let browser: Browser
  const servers: Server[] = []
  const troubles: string[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-web-'))
    await buildWeb(join(folder, 'site'))
    browser = await startBrowser()
  }, 120_000)
  afterAll(async () => {
    await browser?.close()
    for (const server of servers) server.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function openPage(scheme: 'light' | 'dark', headers?: Record<string, string>): Promise<Page> {
    const { server, url } = await serveWeb(join(folder, 'site'), 0, headers)
    servers.push(server)
    const context = await browser.newContext({ colorScheme: scheme, viewport: { width: 1280, height: 900 } })
    const page = await context.newPage()
    page.on('pageerror', (error) => troubles.push(String(error)))
    page.on('console', (message) => troubles.push(message.text()))
    await page.goto(url)
    await page.waitForSelector('body[data-done=open]')
    return page
  }

  const text = (page: Page, selector: string) => page.locator(selector).innerText()

  async function look(page: Page, name: string): Promise<void> {
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 })
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth')
      expect(wide, `${name} at ${width}`).toBeLessThanOrEqual(width)
      if (screenshots)
        await page.screenshot({ path: join(screenshots, `${name}-${width}.png`), fullPage: true })
    }
  }

  it('reads, quantizes, compares and writes, without a word on the console, at any width', async () => {
    const page = await openPage('light')
    expect(await text(page, '#model-facts')).toMatch(/LlamaForCausalLM[\s\S]*4\.2 million[\s\S]*8\.39 MB/)
    await look(page, 'opened-light')
    await page.setViewportSize({ width: 1280, height: 900 })
    await page.click('#start')
    await page.waitForSelector('#codebook svg')
    expect(await text(page, '#codebook-caption')).toMatch(/Layer \d+ of 28: model\.layers\.\d/)
    // the page answers while its worker works
    expect(await page.evaluate('document.querySelectorAll("h1").length')).toBe(1)
    await page.waitForSelector('body[data-done=quantize]', { timeout: 200_000 })
    const figures = await text(page, '#figures')
    expect(figures).toMatch(/weights\s+8\.39 MB\s+2\.\d+ MB/)
    expect(figures).toMatch(/bits per weight of the layers\s+16\.00\s+2\.\d+/)
    const divergence = Number(/nats per token\s+0\s+([\d.]+)/.exec(figures)![1])
    expect(divergence).toBeGreaterThan(0.001)
    expect(divergence).toBeLessThan(0.3)
    await page.click('#go')
    await page.waitForSelector('body[data-done=write]', { timeout: 100_000 })
    for (const slot of ['plain', 'quantized']) {
      expect(await text(page, `#${slot}-text`)).toMatch(/^The king said that .{20,}/s)
      expect(await text(page, `#${slot}-speed`)).toMatch(/tokens a second/)
    }
    await look(page, 'quantized-light')
    await page.emulateMedia({ colorScheme: 'dark' })
    await look(page, 'quantized-dark')
    expect(troubles).toEqual([])
  })

  it('opens a quantized folder from the disk, compares it with the model it came from, and says what is no model', async () => {
    const output = join(folder, 'tiny-2-bits')
    await quantizeModel({ model: tinyLlama, output, method: 'rtn', bits: 4 })
    const page = await openPage('dark')
    await page.setInputFiles('#folder', output)
    await page.waitForSelector('#result:not([hidden])')
    await page.waitForSelector('body[data-done=open]', { timeout: 100_000 })
    expect(await text(page, '#model-facts')).toContain('tiny-2-bits')
    expect(await text(page, '#figures')).toMatch(/same likeliest next token\s+100 %\s+\d+\.\d %/)
    await page.click('#go')
    await page.waitForSelector('body[data-done=write]', { timeout: 100_000 })
    expect(await text(page, '#quantized-text')).toMatch(/^The king said that .{20,}/s)
    await page.setInputFiles('#folder', join(tinyLlama, 'texts'))
    await page.waitForSelector('#trouble:not([hidden])')
    expect(await text(page, '#trouble')).toMatch(/texts: holds no config\.json/)
    await look(page, 'opened-dark')
    expect(troubles).toEqual([])
  })

  it('stops when asked to, and runs on one thread where the server does not isolate it', async () => {
    const page = await openPage('light', {})
    await page.setViewportSize({ width: 360, height: 800 })
    expect(await text(page, '#environment')).toMatch(/one thread: this server does not isolate/)
    await page.click('#start')
    await page.waitForSelector('#codebook svg')
    await page.click('#start')
    await page.waitForSelector('body[data-done=quantize]')
    expect(await text(page, '#start')).toBe('Quantize')
    expect(await page.locator('#trouble').isHidden()).toBe(true)
    await look(page, 'stopped-light')
    expect(troubles).toEqual([])
  })
})
