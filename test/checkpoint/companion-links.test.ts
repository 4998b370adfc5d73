import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exportOnnx, pushModel } from '../../src/export.js'
import { dequantizeModel, inspectModel, quantizeModel, quantizeTensors } from '../../src/model.js'
import { cli } from '../cli/support.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { errorOf, temporaryFolder } from './fixtures.js'

/** A model beside a file that is none of its business. */
async function modelBesideSecret() {
  const work = await temporaryFolder()
  const { folder: model } = await writeTinyModel(join(work, 'model'))
  const secret = join(work, 'secret.txt')
  await writeFile(secret, 'of someone else')
  return { work, model, secret }
}

describe('a companion that is a link out of the folder', () => {
  it('is named by everything that copies it, as what is copied', async () => {
    const { work, model, secret } = await modelBesideSecret()
    await symlink('../secret.txt', join(model, 'notes.txt'))
    const note = `notes.txt is a link out of the folder, to ${secret}; copies of the model hold what is there`
    const output = (name: string) => join(work, name)
    expect((await inspectModel(model)).notes).toEqual([note])
    const rounded = await quantizeModel({ model, output: output('rtn'), method: 'rtn' })
    expect(rounded.notes).toEqual([note])
    expect((await quantizeTensors({ model, output: output('tensors') })).notes).toEqual([note])
    expect((await exportOnnx({ model, output: output('onnx') })).notes).toEqual([note])
    expect(await readFile(join(output('rtn'), 'notes.txt'), 'utf8')).toBe('of someone else')
    // the copy is a file like any other
    expect((await inspectModel(output('rtn'))).notes).toEqual([])
    const { stdout } = await cli(['inspect', model])
    expect(stdout.replace(/\s+/g, ' ')).toContain(note)
  })

  it('is not uploaded, nor is a folder that is one', async () => {
    const { work, model, secret } = await modelBesideSecret()
    await symlink('../secret.txt', join(model, 'notes.txt'))
    const refused = await errorOf(pushModel({ model, repo: 'org/name' }))
    expect(refused.message).toContain(`${join(model, 'notes.txt')}: is a link to ${secret}, which is out of`)
    const { folder: other } = await writeTinyModel(join(work, 'other'))
    await mkdir(join(work, 'elsewhere'))
    await symlink(join(work, 'elsewhere'), join(other, 'more'), 'junction')
    expect((await errorOf(pushModel({ model: other, repo: 'org/name' }))).message).toContain('is a link to')
  })

  it('is at home in the blobs of the cache of the hub, and within its folder', async () => {
    const { work, model } = await modelBesideSecret()
    const repo = join(work, 'models--org--name')
    await mkdir(join(repo, 'snapshots'), { recursive: true })
    await mkdir(join(repo, 'blobs'))
    const snapshot = join(repo, 'snapshots', '0123abcd')
    await rename(model, snapshot)
    for (const [i, name] of (await readdir(snapshot)).entries()) {
      await rename(join(snapshot, name), join(repo, 'blobs', String(i)))
      await symlink(join('..', '..', 'blobs', String(i)), join(snapshot, name))
    }
    await symlink('tokenizer.json', join(snapshot, 'tokenizer_config.json'))
    expect((await inspectModel(snapshot)).notes).toEqual([])
    await symlink(join('..', '..', '..', 'secret.txt'), join(snapshot, 'notes.txt'))
    expect((await inspectModel(snapshot)).notes).toHaveLength(1)
  })
})

describe('a companion that is a link to nowhere', () => {
  it('stops nothing: it is named and left out', async () => {
    const { work, model } = await modelBesideSecret()
    await symlink('gone.md', join(model, 'README.md'))
    await symlink('circle.txt', join(model, 'circle.txt'))
    const notes = [
      'README.md is a link to gone.md, where there is nothing; copies of the model go without it',
      'circle.txt is a link to circle.txt, where there is nothing; copies of the model go without it',
    ]
    expect((await inspectModel(model)).notes).toEqual(notes)
    const output = join(work, 'quantized')
    expect((await quantizeModel({ model, output, method: 'rtn' })).notes).toEqual(notes)
    expect(await readdir(output)).not.toContain('circle.txt')
    await symlink('gone.md', join(output, 'more.md'))
    expect((await dequantizeModel({ model: output, output: join(work, 'plain') })).notes).toHaveLength(1)
  })
})
