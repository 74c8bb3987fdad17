# C types for _machine.py, and nothing else: the meaning stands in the .py file alone.
# Lengths are unsigned until they were compared with what is left; slots and offsets are 64-bit signed.
cimport cython

cdef long long MAX_NAME, KEPT_LIST, KEPT_DICT, MAX_TUPLE_DEPTH, MAX_HASH_DEPTH, MAX_HASH_SIZE, MAX_ODD_KEYS, LONG_KEY
cdef long long DENSE_MEMO, SATURATED, RECORD, WORD, LAZY, HUGE, CALLS

@cython.locals(low=cython.longlong, high=cython.longlong)
cdef long long _u16(const unsigned char[::1] data, long long p) except? -7
@cython.locals(low=cython.longlong, high=cython.longlong)
cdef long long _u32(const unsigned char[::1] data, long long p) except? -7
@cython.locals(value=cython.longlong)
cdef long long _i32(const unsigned char[::1] data, long long p) except? -7
@cython.locals(low=cython.longlong, high=cython.longlong)
cdef long long _u64(const unsigned char[::1] data, long long p) except? -7
cdef double[::1] _POWERS
@cython.locals(high=cython.longlong, low=cython.longlong, exponent=cython.longlong, value=cython.double)
cdef object _double(const unsigned char[::1] data, object raw, long long p)
cdef long long _line(const unsigned char[::1] data, long long p, long long n) except? -7
cdef bint _ascii(const unsigned char[::1] data, long long p, long long end) except -1
cdef long long _after(long long p, long long count, long long n, long long at) except? -7
@cython.locals(op=cython.longlong, start=cython.longlong, count=cython.longlong, end=cython.longlong)
cdef object text_of(const unsigned char[::1] data, object raw, long long offset, object encoding)

cdef object _slice_text(bytes text, Py_ssize_t start, Py_ssize_t end, long long at)

cdef class Walker:
    cdef const unsigned char[::1] data
    cdef public object raw, resolve, mapping, encoding, skip
    cdef public long long start, size, max_opcodes, max_memo, max_calls, max_expansion
    cdef public long long persistent
    cdef public bint checked, fetches_only
    cdef long long[::1] stack, marks, memo, arena, items
    cdef public long long sp, mp, memo_len, records, kept, odd_keys
    cdef public dict sparse, by_name, events_of, noted, gaps, type_states
    cdef public list globals, events, notes
    cdef long long[::1] pids, rebuilds
    cdef public long long pid_count, rebuild, rebuild_count
    cdef public bint shared, dense_puts
    cdef long long pushed_at, pushed_sp, pushed_mp, pushed_effects, pushed_records, effects, needed_at, needed_record, last_global
    cdef public long long opcodes, protocol, end, root
    cdef long long[::1] known_calls, known_results
    cdef long long storage_word

    @cython.locals(base=cython.longlong, start=cython.longlong, count=cython.longlong, i=cython.longlong)
    cpdef children(self, long long slot)
    @cython.locals(kind=cython.longlong, at=cython.longlong, op=cython.longlong)
    cpdef constant(self, long long slot)
    @cython.locals(number=cython.longlong)
    cpdef storage_ids(self)
    cdef long long add_pid(self, long long pid, long long offset) except? -7
    @cython.locals(at=cython.longlong, same=cython.bint)
    cdef add_rebuild(self, long long args, long long offset, long long sp)
    cdef pushed(self, long long at, long long sp)
    @cython.locals(kind=cython.longlong)
    cdef bint fresh(self, long long slot) except -1
    @cython.locals(kind=cython.longlong)
    cdef needed(self, long long slot, long long p)
    @cython.locals(kind=cython.longlong)
    cdef bint holds_storage(self, long long slot) except -1
    @cython.locals(at=cython.longlong, op=cython.longlong)
    cdef long long small(self, long long slot) except? -7
    @cython.locals(number=cython.longlong, slot=cython.longlong, offset=cython.longlong, base=cython.longlong, start=cython.longlong,
                   key=cython.longlong, tag=cython.longlong, numel=cython.longlong, found=list, tags=dict, whole=bytes)
    cpdef plain_ids(self)
    @cython.locals(start=cython.longlong)
    cdef object key_of(self, bytes whole, long long at)
    @cython.locals(used="long long[::1]", number=cython.longlong, slot=cython.longlong, base=cython.longlong, start=cython.longlong,
                   which=cython.longlong, size=cython.longlong, step=cython.longlong, grad=cython.longlong, hooks=cython.longlong,
                   count=cython.longlong, first=cython.longlong, last=cython.longlong, expected=cython.longlong, length=cython.longlong,
                   i=cython.longlong, at=cython.longlong, found=dict, ends=dict, tags=dict, calls=list, numbers=list, gradients=list, ids=list, before=cython.longlong,
                   last_size=cython.longlong, same=cython.bint)
    cpdef plain_tensors(self)
    @cython.locals(count=cython.longlong, first=cython.longlong, second=cython.longlong, i=cython.longlong)
    cdef bint same_tuple(self, long long left, long long right) except -1
    @cython.locals(low=cython.longlong, high=cython.longlong)
    cdef long long u32(self, long long p) except? -7
    cdef bint ascii(self, long long p, long long end) except -1
    cdef push_mark(self, long long value)
    cdef put(self, long long index, long long slot, long long p)
    @cython.locals(slot=cython.longlong)
    cdef long long get(self, long long index, long long p) except? -7
    @cython.locals(index=cython.longlong)
    cdef long long record(self) except? -7
    @cython.locals(start=cython.longlong, i=cython.longlong)
    cdef long long keep(self, long long first, long long count) except? -7
    @cython.locals(kind=cython.longlong)
    cdef long long weight(self, long long slot) except? -7
    cdef long long long_bytes(self, long long slot) except? -7
    cdef long long make_tuple(self, long long first, long long count, long long p) except? -7
    @cython.locals(index=cython.longlong, base=cython.longlong, depth=cython.longlong, weight=cython.longlong,
                   unhashable=cython.longlong, i=cython.longlong, slot=cython.longlong, kind=cython.longlong, other=cython.longlong)
    cdef long long tuple_of(self, long long start, long long count, long long p) except? -7
    cdef bint unhashable(self, long long kind) except -1
    @cython.locals(kind=cython.longlong, base=cython.longlong)
    cdef hashed(self, long long slot, long long p)
    cdef long long container(self, long long kind) except? -7
    @cython.locals(start=cython.longlong, count=cython.longlong, base=cython.longlong, made=cython.longlong, weight=cython.longlong,
                   held=cython.longlong, i=cython.longlong, slot=cython.longlong)
    cdef long long filled(self, long long kind, long long args, long long p) except? -7
    @cython.locals(base=cython.longlong, limit=cython.longlong, weight=cython.longlong, i=cython.longlong, held=cython.longlong, slot=cython.longlong,
                   room=cython.longlong, start=cython.longlong, fresh=cython.longlong)
    cdef fill(self, long long target, long long first, long long count, bint is_pairs, long long p)
    @cython.locals(start=cython.longlong, count=cython.longlong, first=cython.longlong)
    cdef long long persistent_slot(self, long long pid, long long offset) except? -7
    @cython.locals(key=cython.longlong, i=cython.longlong)
    cdef long long call_key(self, long long callee, long long start, long long count) except? -7
    @cython.locals(kind=cython.longlong, start=cython.longlong, count=cython.longlong, result=cython.longlong, key=cython.longlong)
    cdef long long reduce(self, long long callee, long long args, long long offset) except? -7
    @cython.locals(kind=cython.longlong, start=cython.longlong, count=cython.longlong, result=cython.longlong, key=cython.longlong)
    cdef long long call(self, object name, long long callee, long long args, long long offset) except? -7
    @cython.locals(start=cython.longlong, count=cython.longlong)
    cdef long long fetch(self, object name, long long callee, long long args, long long offset) except? -7
    @cython.locals(i=cython.longlong)
    cdef look_for_fetchers(self, long long first, long long count)
    @cython.locals(i=cython.longlong, accepted=cython.longlong, index=cython.longlong)
    cdef bint fits(self, object signature, long long start, long long count) except -1
    @cython.locals(kind=cython.longlong)
    cdef extend(self, long long target, long long first, long long count, object name, long long offset)
    @cython.locals(kind=cython.longlong, i=cython.longlong, slot=cython.longlong)
    cdef set_items(self, long long target, long long first, long long count, object name, long long offset)
    @cython.locals(data="const unsigned char[::1]", stack="long long[::1]", n=cython.longlong, p=cython.longlong, at=cython.longlong,
                   frame_end=cython.longlong, capacity=cython.longlong, sp=cython.longlong, fence=cython.longlong,
                   count=cython.longlong, op=cython.longlong, length=cython.longlong, start=cython.longlong, first=cython.longlong,
                   slot=cython.longlong, callee=cython.longlong, index=cython.longlong, i=cython.longlong)
    cpdef run(self, dict table)
    cdef long long skip_array(self, long long wrapper, long long state, long long p, long long at, long long frame_end) except? -7
    cdef long long skip_line(self, long long p, long long at) except? -7

cdef class Builder:
    cdef const unsigned char[::1] data
    cdef object raw, encoding, model, ordered
    cdef public Walker walker
    cdef list values, stack, memo
    cdef dict sparse, made, ends
    cdef set taken
    cdef long long count, protocol

    cdef remember(self, long long index, object value)
    cdef recall(self, long long index, long long at)
    cdef call(self, object name, object callee, object args, long long at)
    @cython.locals(known=dict, i=cython.longlong)
    cdef pairs_into(self, object target, list items, object name, long long at)
    cdef long_keys(self, list items)
    @cython.locals(data="const unsigned char[::1]", text=bytes, stack=list, marks=list, items=list, gaps=dict, made=dict, ends=dict, taken=set, p=cython.longlong, end=cython.longlong,
                   at=cython.longlong, op=cython.longlong, length=cython.longlong, first=cython.longlong, index=cython.longlong)
    cpdef run(self)
