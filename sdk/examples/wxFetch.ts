/** `fetch` for WeChat mini programs, as far as the SDK uses it: base library 2.20.2 or later. */
export function wxFetch(url: string, { method, headers, body, signal }: RequestInit): Promise<Response> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = []
    let end: 'complete' | Error | undefined
    let wake = () => {}

    const finish = (how: 'complete' | Error) => {
      end ??= how
      if (end instanceof Error) reject(end)
      wake()
    }
    const task = wx.request({
      url,
      method: method as 'GET' | 'POST',
      header: headers as Record<string, string>,
      ...(body && { data: body as string }),
      enableChunked: true,
      responseType: 'arraybuffer',
      success: () => finish('complete'),
      fail: ({ errMsg }) => finish(new Error(errMsg)),
    })
    signal?.addEventListener('abort', () => task.abort(), { once: true })
    task.onChunkReceived(({ data }) => {
      pieces.push(new Uint8Array(data))
      wake()
    })

    const read = async (): Promise<{ done: boolean; value?: Uint8Array }> => {
      while (!pieces.length && !end) await new Promise<void>((resolve) => (wake = resolve))
      const value = pieces.shift()
      if (value) return { done: false, value }
      if (end instanceof Error) throw end
      return { done: true }
    }
    const cancel = async () => task.abort()
    const text = async () => {
      const utf8 = new TextDecoder()
      let all = ''
      for (let piece = await read(); !piece.done; piece = await read())
        all += utf8.decode(piece.value, { stream: true })
      return all
    }
    // The developer tools give no status.
    task.onHeadersReceived(({ header, statusCode: status = 200 }) => {
      const values = new Map(
        Object.entries(header).map(([name, value]) => [name.toLowerCase(), String(value)]),
      )
      resolve({
        ok: status >= 200 && status < 300,
        status,
        headers: { get: (name: string) => values.get(name) ?? null },
        body: { getReader: () => ({ read, cancel }), cancel },
        text,
        json: async () => JSON.parse(await text()),
      } as unknown as Response)
    })
  })
}
