/** Network namespaces on a bridge of this machine, as machines of their own: Linux, root and `ip` (Debian: iproute2). */
import { execFileSync } from 'node:child_process'

/** Machines that reach this one at `host`, and each other, by nothing else. */
export interface Network {
  readonly host: string
  /** Adds a machine. @returns what a command there begins with */
  add(): string[]
  /** Takes the first machine's cable away. */
  cut(): void
  close(): void
}

const SUBNET = '10.213.77'

export function openNetwork(): Network {
  const bridge = `gptvq${process.pid}`
  const names: string[] = []
  const ip = (...words: string[]) => execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'inherit'] })
  const cable = (index: number) => `${bridge}-${index}`
  ip('link', 'add', bridge, 'type', 'bridge')
  ip('address', 'add', `${SUBNET}.1/24`, 'dev', bridge)
  ip('link', 'set', bridge, 'up')
  return {
    host: `${SUBNET}.1`,
    add() {
      const index = names.length
      const name = `${bridge}-${index}`
      ip('netns', 'add', name)
      names.push(name)
      ip('link', 'add', cable(index), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
      ip('link', 'set', cable(index), 'master', bridge, 'up')
      ip('-n', name, 'address', 'add', `${SUBNET}.${index + 2}/24`, 'dev', 'eth0')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
      ip('-n', name, 'link', 'set', 'lo', 'up')
      return ['ip', 'netns', 'exec', name]
    },
    cut: () => ip('link', 'set', cable(0), 'down'),
    close() {
      for (const [index, name] of names.entries()) {
        // a namespace lasts as long as a connection in it that does not know that it is lost
        ip('link', 'delete', cable(index))
        ip('netns', 'delete', name)
      }
      ip('link', 'delete', bridge)
    },
  }
}
