import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasRedis, type RedisServer, startRedis, type TlsFiles } from '../support/redis-server.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { writtenBytes } from './support.js'

const PASSWORD = 's3cret-and-long'
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Whether both ends of TLS can be had; where not, one line says that tests are left out. */
function hasTls(): boolean {
  if (!hasRedis()) return false
  const refused = spawnSync('redis-server', ['--port', '0', '--tls-port', '1', '--save', ''], {
    timeout: 20_000,
  })
  // one that knows TLS asks for a certificate
  const knows = /tls-cert-file/.test(String(refused.stdout) + String(refused.stderr))
  if (knows && spawnSync('openssl', ['version']).status === 0) return true
  console.warn('redis-server without TLS, or no openssl: the test of rediss:// is skipped')
  return false
}

/** A certificate for 127.0.0.1 that signs itself. */
function certify(folder: string, name: string): TlsFiles {
  const [cert, key] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  const files = ['-keyout', key, '-out', cert]
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...files, ...subject],
    {
      stdio: 'ignore',
    },
  )
  return { cert, key, ca: cert }
}

/** The command line, with a certificate that it trusts besides those of the system. */
function gptvq(args: readonly string[], trusted: string | undefined) {
  const { NODE_EXTRA_CA_CERTS: _, ...others } = process.env
  const env = { ...others, ...(trusted !== undefined && { NODE_EXTRA_CA_CERTS: trusted }) }
  const child = spawn(process.execPath, ['--import', 'tsx', main, ...args], { env })
  const run = {
    child,
    output: '',
    ended: new Promise<number | null>((resolve) => child.once('close', resolve)),
  }
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      run.output += text
    })
  }
  return run
}

describe.skipIf(!hasTls())('over TLS', { timeout: 300_000 }, () => {
  let folder: string
  let server: RedisServer
  let files: TlsFiles
  const running: ChildProcess[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-tls-'))
    files = certify(folder, 'server')
    server = await startRedis(PASSWORD, files)
  })
  afterAll(async () => {
    for (const child of running) child.kill('SIGKILL')
    await server.close()
    await rm(folder, { recursive: true, force: true })
  })

  it('a worker quantizes, the bytes are those of one machine, and the password is written nowhere', async () => {
    const { folder: model } = await writeTinyModel(join(folder, 'model'))
    const calibration = join(folder, 'text.txt')
    await cp(fileURLToPath(new URL('../../README.md', import.meta.url)), calibration)
    const quantize = (name: string, ...more: string[]) => {
      const sizes = ['--sequences', '4', '--sequence-length', '32']
      const out = ['--out', join(folder, name)]
      return gptvq(['quantize', model, ...out, '--calibration', calibration, ...sizes, ...more], files.cert)
    }
    const alone = quantize('alone')
    expect([await alone.ended, alone.output]).toEqual([0, expect.any(String)])
    const worker = gptvq(['worker', '--redis', server.url], files.cert)
    running.push(worker.child)
    const away = quantize('away', '--redis', server.url)
    expect([await away.ended, away.output]).toEqual([0, expect.any(String)])
    worker.child.kill('SIGTERM')
    await worker.ended
    const [here, there] = [
      await writtenBytes(join(folder, 'alone')),
      await writtenBytes(join(folder, 'away')),
    ]
    expect(there.map((bytes, i) => bytes.equals(here[i]))).toEqual([true, true])
    expect(worker.output).toContain('q_proj')
    expect(away.output + worker.output).not.toContain(PASSWORD)
    for (const name of await readdir(join(folder, 'away'))) {
      expect((await readFile(join(folder, 'away', name))).includes(PASSWORD)).toBe(false)
    }
  })

  it('a server that nobody vouches for is refused, without the password', async () => {
    const refused = gptvq(['worker', '--redis', server.url], undefined)
    running.push(refused.child)
    expect(await refused.ended).toBeGreaterThan(0)
    expect(refused.output).toMatch(
      /cannot reach Redis at rediss:\/\/127\.0\.0\.1:\d+: .*self.signed certificate/,
    )
    expect(refused.output).not.toContain(PASSWORD)
  })
})
