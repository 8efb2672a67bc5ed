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
type log struct {
	mu        sync.Mutex // guards all below
	blocks    []block
	last      uint64 // position of the newest record, which count from 1; 0 when empty
	ended     bool   // the newest record is the terminal one
	allocated int64  // capacity of all blocks, bytes

	// waiting has one entry for each reader that found nothing more. The channels have room for one
	// signal, so that the writer can leave it and go on.
	waiting []chan struct{}
}

type block struct {
	first uint64 // position of its first record
	data  []byte
}

// append adds one record, and wakes the readers unless the caller promises to call again, or wake,
// before it waits. It is refused, not ok, after the terminal record. left is how many bytes the next
// records may have before it takes more memory: see nextBlock.
func (l *log) append(record []byte, terminal, wake bool) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, false
	}
	n := len(l.blocks)
	if n == 0 || cap(l.blocks[n-1].data)-len(l.blocks[n-1].data) < len(record) {
		size := blockSize(n, len(record))
		if terminal {
			size = len(record)
		}
		l.blocks = append(l.blocks, block{first: l.last + 1, data: make([]byte, 0, size)})
		l.allocated += int64(size) + blockHead
		n++
	}
	b := &l.blocks[n-1]
	b.data = append(b.data, record...)
	l.last++
	l.ended = terminal
	if wake || terminal {
		l.signal()
	}
	return cap(b.data) - len(b.data), true
}

// blockHead is what a block takes beside its data, in bytes.
const blockHead = 40

// blockSize is that of the block that follows n others and has to hold a record.
func blockSize(n, record int) int { return max(min(firstBlock<<min(n, 8), lastBlock), record) }

// nextBlock is what another block would take in memory, which has to hold a record.
func (l *log) nextBlock(record int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(blockSize(len(l.blocks), record)) + blockHead
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
	l.blocks, l.allocated = nil, 0
}

// wake lets the readers have what was appended without waking them.
func (l *log) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signal()
}

func (l *log) signal() {
	for _, c := range l.waiting {
		select {
		case c <- struct{}{}:
		default: // it has an unread signal already
		}
	}
	clear(l.waiting)
	l.waiting = l.waiting[:0]
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
	for _, b := range l.blocks {
		n += len(b.data)
	}
	return n
}

// place is where a reader is in a log: so many bytes into so many blocks. Its zero is the beginning.
type place struct{ block, offset int }

// span is some consecutive records.
type span struct {
	data  []byte
	last  uint64 // position of the last of them
	more  bool   // there is more behind it already
	ended bool   // the newest record of the log is the terminal one
}

// next gives the records behind at, at most to the end of a block, and moves at behind them. When
// there are none, it puts c on the list of those to signal, unless c is nil.
func (l *log) next(at *place, c chan struct{}) span {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.block+1 < len(l.blocks) && at.offset == len(l.blocks[at.block].data) {
		at.block, at.offset = at.block+1, 0
	}
	if at.block >= len(l.blocks) || at.offset == len(l.blocks[at.block].data) {
		if c != nil && !l.ended {
			l.waiting = append(l.waiting, c)
		}
		return span{ended: l.ended}
	}
	b := l.blocks[at.block]
	s := span{last: l.last, data: b.data[at.offset:len(b.data):len(b.data)], ended: l.ended}
	if at.block+1 < len(l.blocks) {
		s.more, s.last = true, l.blocks[at.block+1].first-1
	}
	at.offset = len(b.data)
	return s
}

// forget takes c off the list: its reader leaves without having been signalled.
func (l *log) forget(c chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		if w == c {
			l.waiting[i] = l.waiting[len(l.waiting)-1]
			l.waiting[len(l.waiting)-1] = nil
			l.waiting = l.waiting[:len(l.waiting)-1]
			return
		}
	}
}

// seek finds the place behind position after, which is at most the newest.
func (l *log) seek(after uint64) place {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].first > after }) - 1
	if i < 0 {
		return place{}
	}
	rest := l.blocks[i].data
	for at := l.blocks[i].first; at <= after; at++ {
		_, _, rest, _ = cutRecord(rest)
	}
	return place{block: i, offset: len(l.blocks[i].data) - len(rest)}
}
