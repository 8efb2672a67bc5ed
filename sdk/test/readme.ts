import { readFileSync } from 'node:fs'

export interface Block {
  language: string
  code: string
}

/** The code blocks of a README, in order. */
export function blocksOf(readme: string): Block[] {
  const text = readFileSync(new URL(`../${readme}`, import.meta.url), 'utf8')
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, code]) => ({
    language: language!,
    code: code!,
  }))
}

/** The one block with this text in it, in the SDK's README or in the guide for frontends. */
export function blockWith(text: string): string {
  const all = [...blocksOf('README.md'), ...blocksOf('../docs/frontends.md')]
  const [block, ...others] = all.filter(({ code }) => code.includes(text))
  if (!block || others.length) throw new Error(`not one block has ${text}`)
  return block.code
}
