import { type ComputedRef, computed, type MaybeRefOrGetter, shallowRef, toRaw, toValue, watch } from 'vue'
import { type Action, type ChatOptions, type ChatSnapshot, type ChatStore, chatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

export type UseStreamingChat = { [K in keyof ChatSnapshot]: ComputedRef<ChatSnapshot[K]> } & Pick<
  ChatStore,
  Action
>

/**
 * A conversation that streams. Options are read when a message is sent: pass a ref or a getter if
 * they change. With an `id` the conversation outlives the component; without one, the end of the component,
 * or of the effect scope, stops the answer under way. Outside of a scope, as in a module of its own, it lives
 * as long as the page.
 */
export function useStreamingChat(options: MaybeRefOrGetter<ChatOptions> = {}): UseStreamingChat {
  const read = (): ChatOptions => toValue(options)
  let store!: ChatStore
  // Shallow: a snapshot is replaced, never changed, and a long conversation is no place for proxies.
  const snapshot = shallowRef({} as ChatSnapshot)
  watch(
    () => read().id,
    (id, _, onCleanup) => {
      store = chatStore(id, read)
      const show = (): void => {
        snapshot.value = store.getSnapshot()
      }
      show()
      store.configure(read)
      onCleanup(store.attach(show))
    },
    { flush: 'sync', immediate: true },
  )

  const chat: Record<string, unknown> = {}
  for (const name in snapshot.value) chat[name] = computed(() => snapshot.value[name as keyof ChatSnapshot])
  for (const name in store.actions) {
    // The store may be another one by then. An answer knows its question by identity, which a proxy hides.
    chat[name] = (argument: never) => store[name as Action](toRaw(argument))
  }
  return chat as UseStreamingChat
}
