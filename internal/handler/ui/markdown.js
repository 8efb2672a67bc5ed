// Shows the Markdown that models write: paragraphs, headings, lists, quotes, code, bold and links.
// It builds elements and never HTML text: an answer cannot put a script into the page.

/** Makes an element with properties and children. */
export function h(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children.filter((child) => child !== undefined && child !== ''))
  return element
}

/**
 * Shows `text` in `root`. Blocks that were there before stay as they are, so that a growing answer
 * costs its last block only, and a selection in the text above survives.
 */
export function showMarkdown(root, text) {
  const sources = blocks(text)
  sources.forEach((source, i) => {
    const shown = root.children[i]
    if (shown?.source === source) return
    const element = Object.assign(block(source), { source })
    if (shown) shown.replaceWith(element)
    else root.append(element)
  })
  while (root.children.length > sources.length) root.lastElementChild.remove()
}

/** The beginning of a list's item. */
const item = /^\s*(?:[-*+]|\d+[.)]) +/

/** Splits at blank lines, but not inside of fenced code. */
function blocks(text) {
  const sources = []
  let current = []
  let fence
  const close = () => {
    if (current.length) sources.push(current.join('\n'))
    current = []
  }
  for (const line of text.split('\n')) {
    const mark = /^\s*(```|~~~)/.exec(line)?.[1]
    if (fence) {
      current.push(line)
      if (mark === fence) {
        fence = undefined
        close()
      }
    } else if (mark) {
      close()
      fence = mark
      current.push(line)
    } else if (!line.trim()) close()
    else if (/^#{1,6} /.test(line)) {
      close()
      current.push(line)
      close()
    } else {
      // Models begin a list right below its introduction.
      if (item.test(line) && !item.test(current[0] ?? line)) close()
      current.push(line)
    }
  }
  close()
  return sources
}

function block(source) {
  const lines = source.split('\n')
  const [first] = lines
  if (/^\s*(```|~~~)/.test(first)) {
    const closed = lines.length > 1 && /^\s*(```|~~~)\s*$/.test(lines.at(-1))
    return h('pre', { tabIndex: 0 }, h('code', {}, lines.slice(1, closed ? -1 : undefined).join('\n')))
  }
  // One level for all: an answer's own levels would leave gaps in the page's outline.
  if (/^#{1,6} /.test(first)) return h('h3', {}, ...inline(first.replace(/^#+ /, '')))
  if (lines.every((line) => line.startsWith('>'))) {
    return h('blockquote', {}, ...inline(lines.map((line) => line.replace(/^> ?/, '')).join('\n')))
  }
  if (item.test(first)) return list(lines)
  return h('p', {}, ...inline(source))
}

function list(lines) {
  const items = []
  for (const line of lines) {
    if (item.test(line)) items.push(line.replace(item, ''))
    else items[items.length - 1] += `\n${line.trim()}`
  }
  const number = /^\s*(\d+)/.exec(lines[0])?.[1]
  return h(
    number ? 'ol' : 'ul',
    number ? { start: number } : {},
    ...items.map((text) => h('li', {}, ...inline(text))),
  )
}

/** Code, bold, emphasis and links; everything else is text. */
function inline(text) {
  const parts = []
  let end = 0
  const marks =
    /`([^`\n]+)`|\*\*(\S(?:[^*\n]*\S)?)\*\*|\*(\S(?:[^*\n]*\S)?)\*|\[([^\]\n]{1,300})\]\((https?:\/\/[^\s)]+)\)/g
  for (const match of text.matchAll(marks)) {
    const [whole, code, strong, emphasis, label, href] = match
    parts.push(text.slice(end, match.index))
    if (code) parts.push(h('code', {}, code))
    else if (strong) parts.push(h('strong', {}, strong))
    else if (emphasis) parts.push(h('em', {}, emphasis))
    else parts.push(h('a', { href, rel: 'noopener noreferrer', target: '_blank' }, label))
    end = match.index + whole.length
  }
  return [...parts, text.slice(end)]
}
