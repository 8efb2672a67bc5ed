import {
  type ComputedRef,
  computed,
  getCurrentScope,
  type MaybeRefOrGetter,
  onScopeDispose,
  shallowRef,
  toRaw,
  toValue,
  watch,
} from 'vue'
import { type ChatOptions, type ChatSnapshot, ChatStore, chatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

type Functions = Pick<
  ChatStore,
  'sendMessage' | 'regenerate' | 'resume' | 'stop' | 'setMessages' | 'clearError'
>

export type UseStreamingChat = { [K in keyof ChatSnapshot]: ComputedRef<ChatSnapshot[K]> } & Functions

/**
 * A conversation that streams. Options are read when a message is sent: pass a ref or a getter if
 * they change. With an `id` the conversation outlives the component; without one, the end of the component,
 * or of the effect scope, stops the answer under way.
 */
export function useStreamingChat(options: MaybeRefOrGetter<ChatOptions> = {}): UseStreamingChat {
  const read = (): ChatOptions => toValue(options)
  const choose = (id: string | undefined): ChatStore =>
    id === undefined ? new ChatStore(read) : chatStore(id, read)
  let store = choose(read().id)
  // Shallow: a snapshot is replaced, never changed, and a long conversation is no place for proxies.
  const snapshot = shallowRef(store.getSnapshot())
  const enter = (): (() => void) => {
    const show = (): void => {
      snapshot.value = store.getSnapshot()
    }
    show()
    const unsubscribe = store.subscribe(show)
    const detach = store.attach(read)
    return () => {
      unsubscribe()
      detach()
    }
  }
  let leave = enter()
  watch(
    () => read().id,
    (id) => {
      leave()
      store = choose(id)
      leave = enter()
    },
    { flush: 'sync' },
  )
  // Outside of a scope, as in a module of its own, the conversation lives as long as the page.
  if (getCurrentScope()) onScopeDispose(() => leave())

  const { subscribe, getSnapshot, dispose, ...actions } = store
  const refs = map(store.getSnapshot(), (name) => computed(() => snapshot.value[name]))
  // The store may be another one by then. An answer knows its question by identity, which a proxy hides.
  const functions = map(actions, (name) => (argument: never) => store[name](toRaw(argument)))
  return { ...refs, ...functions } as UseStreamingChat
}

const map = <T extends object, V>(all: T, make: (name: keyof T) => V) =>
  Object.fromEntries(Object.keys(all).map((name) => [name, make(name as keyof T)]))
