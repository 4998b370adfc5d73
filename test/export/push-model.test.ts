import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportOnnx, pushModel } from 'gptvq/export'
import { quantizeModel } from 'gptvq/model'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { cli } from '../cli/support.js'
import { startUploadHub, type UploadServer, uploadToken } from '../hub/upload-server.js'
import { writeTinyModel } from '../support/tiny-model.js'

let root: string
let quantized: string
let exported: string
let hub: UploadServer

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gptvq-push-'))
  const plain = join(root, 'plain')
  await writeTinyModel(plain)
  await writeFile(join(plain, 'README.md'), '---\nlicense: mit\ntags:\n- x\n---\n# Original\n')
  quantized = join(root, 'quantized')
  exported = join(root, 'exported')
  await quantizeModel({ model: plain, output: quantized, method: 'rtn', bits: 4, groupSize: 16 })
  await exportOnnx({ model: quantized, output: exported })
})

afterAll(() => rm(root, { recursive: true, force: true }))

async function useHub(isThere = false, token = uploadToken): Promise<void> {
  hub = await startUploadHub(isThere, token)
  vi.stubEnv('HF_ENDPOINT', hub.url)
  vi.stubEnv('HF_TOKEN', token)
}

beforeEach(() => useHub())
afterEach(async () => {
  vi.unstubAllEnvs()
  await hub.close()
})

const text = (name: string) => Buffer.from(hub.files.get(name) ?? []).toString()

describe('a quantized folder', () => {
  it('is there file by file, in one commit, with a card of what it is', async () => {
    const scores = join(root, 'scores.json')
    const measured = { perplexity: 12.3456, klDivergence: 0.0123, top1Agreement: 0.91 }
    await writeFile(scores, JSON.stringify({ ...measured, reference: { perplexity: 12 } }))
    const steps: number[] = []
    const pushed = await pushModel({
      model: quantized,
      repo: 'org/tiny',
      baseModel: 'org/original',
      scores,
      message: 'First',
      onProgress: ({ done }) => steps.push(done),
    })
    expect(pushed.url).toBe(`${hub.url}/org/tiny`)
    expect([...hub.files.keys()].sort()).toEqual(pushed.files)
    expect(hub.messages).toEqual(['First'])
    expect(hub.made).toMatchObject([{ name: 'tiny', organization: 'org', visibility: 'public' }])
    for (const name of pushed.files) {
      if (name === 'README.md') continue
      expect(Buffer.compare(await readFile(join(quantized, name)), hub.files.get(name)!), name).toBe(0)
    }
    const card = text('README.md')
    const lines = card.split('---\n')[1].split('\n')
    expect(lines).toEqual(
      expect.arrayContaining([
        'license: mit',
        'base_model: "org/original"',
        'base_model_relation: "quantized"',
        'library_name: "gptvq"',
        '- rtn',
        '- x',
      ]),
    )
    expect(card).toContain('| method | rtn |')
    expect(card).toContain('scalar, 4 bits, group 16')
    expect(card).toContain('| perplexity | 12.346, 12.000 before |')
    expect(card).toContain('| same likeliest token | 91.0 % |')
    expect(card).toContain('npx gptvq run org/tiny')
    expect(card).toContain('## How it was made')
    expect(card).toContain('gptvq quantize MODEL --out DIR --method rtn')
    expect(card).not.toContain('# Original')
    expect(card).toContain('npx gptvq export org/tiny --format onnx')
    expect(steps.every((value, i) => value >= 0 && value <= 1 && (i === 0 || value >= steps[i - 1]))).toBe(
      true,
    )
  })

  it("is added to a model that is there, under a card and a name of one's own, on another branch", async () => {
    await hub.close()
    await useHub(true)
    const card = join(root, 'card.md')
    await writeFile(card, '# Mine\n')
    await pushModel({ model: quantized, repo: 'org/tiny@try', card })
    expect(text('README.md')).toBe('# Mine\n')
    expect(hub.log).toContain('POST /api/models/org/tiny/commit/try')
  })
})

describe('a model that is there', () => {
  const push = (more: object = {}) => pushModel({ model: quantized, repo: 'org/tiny', patience: 1, ...more })
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  const old = [...shards, 'model.safetensors.index.json']

  beforeEach(async () => {
    await hub.close()
    await useHub(true)
    for (const name of [...old, 'adapter_model.safetensors', 'notes.txt']) hub.files.set(name, Buffer.of(1))
  })

  it('loses the weights that the new ones replace, in the same commit, and nothing else', async () => {
    const { removed, files } = await push()
    expect(removed).toEqual(old)
    expect([...hub.files.keys()].sort()).toEqual([...files, 'adapter_model.safetensors', 'notes.txt'].sort())
    expect(hub.messages).toHaveLength(1)
  })

  it('keeps its weights where the folder brings none', async () => {
    const { removed } = await push({ model: exported })
    expect(removed).toEqual([])
    expect([...hub.files.keys()]).toEqual(expect.arrayContaining(old))
  })

  it('takes files by a token that may write to it and make none', async () => {
    hub.refuse = (path) => (path === '/api/repos/create' ? 403 : undefined)
    await push()
    expect(hub.files.has('model.safetensors')).toBe(true)
  })

  it('takes files by a token that looks otherwise than those of the hub', async () => {
    await hub.close()
    await useHub(true, 'my-own')
    await push()
    expect(hub.files.has('model.safetensors')).toBe(true)
  })

  it.each([
    ...['/api/repos/create', 'tree', 'preupload', 'objects/batch', '/store/'].map((place) => ({
      place,
      status: 503,
    })),
    { place: 'commit', status: 429 },
  ])('takes files where $place is answered with $status at first', async ({ place, status }) => {
    hub.refuse = (path, count) => (path.includes(place) && count === 1 ? status : undefined)
    await push()
    expect(hub.messages).toHaveLength(1)
    expect(hub.files.has('model.safetensors')).toBe(true)
  })
})

describe("the folder's own card", () => {
  const own = [
    'license: other',
    'license_name: llama3.2',
    'base_model: org/first',
    'base_model_relation: finetune',
    'language:',
    '- en',
    '- fr',
    'model-index:',
    '- name: own',
  ]
  const pushed = async (more: object = {}, from = join(root, 'plain'), matter = own) => {
    const model = await mkdtemp(join(root, 'with-card-'))
    await cp(from, model, { recursive: true })
    await writeFile(join(model, 'README.md'), `---\n${matter.join('\n')}\n---\n# Own\n`)
    await pushModel({ model, repo: 'org/tiny', ...more })
    return text('README.md').split('---\n')[1].split('\n')
  }

  it('keeps what its front matter says', async () => {
    expect(await pushed()).toEqual([
      ...own,
      'pipeline_tag: "text-generation"',
      'library_name: "transformers"',
      '',
    ])
  })

  it('gives way to what is asked for', async () => {
    const lines = await pushed({ license: 'mit', baseModel: 'org/second' })
    expect(lines).toContain('license: "mit"')
    expect(lines).toContain('base_model: "org/second"')
    expect(lines).toContain('- fr')
    expect(lines.join()).not.toMatch(/llama3\.2|org\/first|finetune/)
  })

  it.each(['quantized', 'exported'])(
    'of a %s folder keeps no scores, and the relation to a base of which the model was tuned',
    async (kind) => {
      const lines = await pushed({}, kind === 'quantized' ? quantized : exported)
      expect(lines).not.toContain('model-index:')
      expect(lines).toEqual(
        expect.arrayContaining(['base_model: org/first', 'base_model_relation: finetune']),
      )
    },
  )

  it('of a quantized folder keeps that it is quantized where it says so', async () => {
    const matter = ['base_model: "org/first"', 'base_model_relation: "quantized"']
    expect(await pushed({}, quantized, matter)).toEqual(expect.arrayContaining(matter))
  })
})

it('an exported folder is there with its graph, and a card that shows it in transformers.js', async () => {
  const { stdout, code, stderr } = await cli([
    'push',
    exported,
    'org/tiny',
    '--license',
    'apache-2.0',
    '--private',
    '--json',
  ])
  expect({ code, stderr: stderr.includes('error') }).toEqual({ code: 0, stderr: false })
  expect(JSON.parse(stdout).files).toContain('onnx/model.onnx')
  const graph = hub.files.get('onnx/model.onnx')!
  expect(Buffer.compare(await readFile(join(exported, 'onnx', 'model.onnx')), graph)).toBe(0)
  expect(hub.made).toMatchObject([{ visibility: 'private' }])
  const card = text('README.md')
  expect(card).toContain('license: "apache-2.0"')
  expect(card).toContain('library_name: "transformers.js"')
  expect(card).toContain("pipeline('text-generation', 'org/tiny')")
})

describe('what goes wrong is said by name, and nothing is added', () => {
  const push = (more: object = {}) => pushModel({ model: quantized, repo: 'org/tiny', patience: 1, ...more })
  afterEach(() => expect(hub.files.size).toBe(0))

  it('no token, another one, none while offline', async () => {
    vi.stubEnv('HF_TOKEN', '')
    await expect(push()).rejects.toThrow(/set HF_TOKEN to a token that may write/)
    vi.stubEnv('HF_TOKEN', 'hf_read')
    await expect(push()).rejects.toThrow(/the hub refuses \(401\).*HF_TOKEN/)
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    await expect(push()).rejects.toThrow(/HF_HUB_OFFLINE/)
  })

  it.each([
    ['preupload', 404, /no such place \(404\).*branch/],
    ['store', 500, /./],
    ['commit', 403, /refuses \(403\)/],
    ['create', 403, /refuses \(403\)/],
  ])('%s answered with %i', async (place, status, message) => {
    hub.refuse = (path) => (path.includes(place) ? status : undefined)
    await expect(push()).rejects.toThrow(message)
  })

  it.each([503, 504])('a commit that may have been made (%i) is not sent again', async (status) => {
    hub.refuse = (path) => (path.includes('commit') ? status : undefined)
    await expect(push()).rejects.toThrow(`answers with an error (${status}`)
    expect(hub.log.filter((line) => line.includes('/commit/'))).toHaveLength(1)
  })

  it('a folder without a model, a name that is none, scores that are none', async () => {
    await expect(push({ model: root })).rejects.toThrow(/holds no config.json/)
    await expect(push({ repo: 'tiny' })).rejects.toThrow(/repo: expected the name of a model on the hub/)
    await expect(push({ scores: join(quantized, 'config.json') })).rejects.toThrow(/says no perplexity/)
    const missing = await cli(['push', quantized])
    expect(missing).toMatchObject({ code: 2 })
    expect(missing.stderr).toMatch(/NAME is missing: gptvq push DIR NAME/)
  })

  it.each([
    [{ patience: Number.NaN }, /patience: expected a whole number of at least 0, got NaN/],
    [{ patience: -1 }, /patience: expected a whole number of at least 0, got -1/],
    [{ message: 5 }, /message: expected a text that is not empty, got 5/],
    [{ message: '' }, /message: expected a text that is not empty/],
  ])('the option %o', async (option, message) => {
    await expect(push(option)).rejects.toThrow(message)
    expect(hub.log).toEqual([])
  })

  it('stopped by the caller', async () => {
    const controller = new AbortController()
    hub.refuse = (path) => {
      if (path.includes('preupload')) controller.abort()
      return undefined
    }
    await expect(push({ signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' })
  })
})
