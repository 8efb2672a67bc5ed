package stream

import (
	"sort"
	"sync"
)

// Sizes of the blocks that a log grows by, in bytes. Small answers stay small, and a block is what
// goes to Redis as one entry at most.
const (
	firstBlock = 1 << 10
	lastBlock  = 32 << 10
)

// log keeps the records of one stream in memory. Blocks are only ever appended to, within their
// capacity, so what a reader was given stays valid without the lock and without a copy. One
// goroutine appends at a time; any number read. The writer never waits for a reader.
//
// What each record needs of it comes first: see generation.
type log struct {
	mu    sync.Mutex // guards all below
	more  sync.Cond  // there is more, or something else has happened that its readers wait for; L is mu
	tail  block      // the newest one, no data: there is none
	last  uint64     // position of the newest record, which count from 1; 0 when empty
	ended bool       // the newest record is the terminal one

	full      []block // those before the newest
	allocated int64   // capacity of all blocks, bytes
}

type block struct {
	first uint64 // position of its first record
	data  []byte
}

// append adds one record, and wakes the readers unless the caller promises to call again, or wake,
// before it waits. It is refused, not ok, after the terminal record. left is how many bytes the next
// records may have before it takes more memory: see nextBlock.
func (l *log) append(kind byte, rest []byte, terminal, wake bool) (left int, ok bool) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return 0, false
	}
	if n := recordSize(rest); cap(l.tail.data)-len(l.tail.data) < n {
		l.extend(n, terminal)
	}
	l.tail.data = appendRecord(l.tail.data, kind, rest)
	l.last++
	l.ended = terminal
	left = cap(l.tail.data) - len(l.tail.data)
	l.mu.Unlock()
	if wake || terminal {
		l.more.Broadcast() // without the lock, which is what its readers need first
	}
	return left, true
}

// extend begins the block that the next record goes to, whose size is n. The caller holds mu.
func (l *log) extend(n int, terminal bool) {
	size := n
	if !terminal {
		size = blockSize(l.count(), n)
	}
	if l.count() > 0 {
		l.full = append(l.full, l.tail)
	}
	l.tail = block{first: l.last + 1, data: make([]byte, 0, size)}
	l.allocated += int64(size) + blockHead
}

// count is how many blocks there are. The caller holds mu.
func (l *log) count() int {
	if l.tail.data == nil {
		return 0
	}
	return len(l.full) + 1
}

// block is one of them, or an empty one behind them. The caller holds mu.
func (l *log) block(i int) *block {
	if i < len(l.full) {
		return &l.full[i]
	}
	return &l.tail
}

// blockHead is what a block takes beside its data, in bytes.
const blockHead = 40

// blockSize is that of the block that follows n others and has to hold a record.
func blockSize(n, record int) int { return max(min(firstBlock<<min(n, 8), lastBlock), record) }

// nextBlock is what another block would take in memory, which has to hold a record.
func (l *log) nextBlock(record int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(blockSize(l.count(), record)) + blockHead
}

// empty says whether there is no record but the terminal one.
func (l *log) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last == 0 || l.last == 1 && l.ended
}

// drop lets go of all records. It has none from then on, but still its end.
func (l *log) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full, l.tail, l.allocated = nil, block{}, 0
}

// wake lets the readers have what was appended without waking them, and look at what else they wait for. What has
// happened before the call they see, also those that are about to wait.
func (l *log) wake() {
	l.mu.Lock()
	l.mu.Unlock() //nolint:staticcheck // who looked before is waiting now
	l.more.Broadcast()
}

// end is the position of the newest record and whether it is the terminal one.
func (l *log) end() (last uint64, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.ended
}

// memory is what the log takes, in bytes.
func (l *log) memory() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allocated
}

// size is that of all records, in bytes.
func (l *log) size() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.full {
		n += len(b.data)
	}
	return n + len(l.tail.data)
}

// place is where a reader is in a log: so many bytes into so many blocks. Its zero is the beginning.
type place struct{ block, offset int }

// span is some consecutive records.
type span struct {
	data []byte
	last uint64 // position of the last of them
}

// next gives the records behind at, at most to the end of a block, and moves at behind them. There may be none. more
// says that there are others behind them, terminal that the last of them is the stream's last.
func (l *log) next(at *place) (s span, more, terminal bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.beyond(*at) {
		return span{}, false, false
	}
	s, more = l.cut(at)
	return s, more, l.ended && !more
}

// beyond says whether there are records behind at. The caller holds mu.
func (l *log) beyond(at place) bool { return at.block < len(l.full) || at.offset < len(l.tail.data) }

// cut is next where there are records. The caller holds mu.
func (l *log) cut(at *place) (s span, more bool) {
	if at.block < len(l.full) && at.offset == len(l.full[at.block].data) {
		at.block, at.offset = at.block+1, 0
	}
	b, last := &l.tail, l.last
	if more = at.block < len(l.full); more {
		b, last = &l.full[at.block], l.block(at.block+1).first-1
	}
	s = span{data: b.data[at.offset:len(b.data):len(b.data)], last: last}
	at.offset = len(b.data)
	return s, more
}

// seek finds the place behind position after, which is at most the newest.
func (l *log) seek(after uint64) place {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(l.count(), func(i int) bool { return l.block(i).first > after }) - 1
	if i < 0 {
		return place{}
	}
	b := l.block(i)
	rest := b.data
	for at := b.first; at <= after; at++ {
		_, _, rest, _ = cutRecord(rest)
	}
	return place{block: i, offset: len(b.data) - len(rest)}
}
