// Guides stand in the sidebar by their headings, and not by the names of their files, of which several are README.
import { Converter } from 'typedoc'

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const guide of project.documents ?? []) {
      const text = guide.content.map((part) => part.text).join('')
      guide.name = /^# (.+)$/m.exec(text)?.[1].replace(/[`*]/g, '') ?? guide.name
    }
  })
}
