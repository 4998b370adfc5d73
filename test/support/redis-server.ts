import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Whether Debian's redis-server is on the PATH; where it is not, one line says that tests are left out. */
export function hasRedis(): boolean {
  if (spawnSync('redis-server', ['--version']).status === 0) return true
  console.warn(
    'There is no redis-server: tests of work over machines are skipped. Debian: apt-get install redis-server',
  )
  return false
}

export interface RedisServer {
  readonly url: string
  /** Ends the server; what it held is lost unless it saved it. */
  stop(): Promise<void>
  /** Starts it again at the same place. */
  start(): Promise<void>
  /** Ends it for good. */
  close(): Promise<void>
}

/** Files by which a server proves who it is: its certificate, its key, and the certificate of whoever signed it. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

/**
 * Starts a server of its own, which writes nothing but to a temporary folder.
 *
 * @param tls it then takes connections by TLS only
 * @param host the address that it listens at; one that other machines reach wants a password
 */
export async function startRedis(
  password?: string,
  tls?: TlsFiles,
  host = '127.0.0.1',
): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-redis-'))
  const port = await freePort(host)
  let child: ChildProcess | undefined
  const start = async () => {
    const flags = [
      ...(tls ? tlsFlags(port, tls) : ['--port', String(port)]),
      '--bind',
      host,
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'no',
    ]
    const secret = password === undefined ? [] : ['--requirepass', password]
    child = spawn('redis-server', [...flags, ...secret], { stdio: ['ignore', 'pipe', 'ignore'] })
    await new Promise<void>((resolve, reject) => {
      child!.stdout!.on('data', (text) => String(text).includes('Ready to accept') && resolve())
      child!.once('exit', () => reject(new Error('redis-server did not start')))
    })
  }
  const stop = async () => {
    if (child === undefined || child.exitCode !== null) return
    const ended = new Promise((resolve) => child!.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
    child = undefined
  }
  await start()
  return {
    url: `${tls ? 'rediss' : 'redis'}://${password === undefined ? '' : `:${password}@`}${host}:${port}`,
    start,
    stop,
    async close() {
      await stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function tlsFlags(port: number, { cert, key, ca }: TlsFiles): string[] {
  const files = ['--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', ca]
  return ['--port', '0', '--tls-port', String(port), ...files, '--tls-auth-clients', 'no']
}

function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, host, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
