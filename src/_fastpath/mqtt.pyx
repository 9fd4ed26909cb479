# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False, binding=False
"""Framing of MQTT packets, and the two kinds that a broker sees thousands of a second. Products use kubeedge.mqtt.codec and kubeedge.mqtt.answers.

Lives here:      where a packet begins and ends; PUBLISH and PUBACK as nearly all of them are; their way back into bytes.
Lives elsewhere: all other packets, and those two with properties or with something wrong in them, which codec.py names.

OASIS, MQTT 3.1.1 and 5.0: 2.1.4 remaining length, 3.3 PUBLISH, 3.4 PUBACK.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcpy


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    _TOPIC = 1024
    _LEVELS = 64
    _LARGEST = 268435455

MAX_TOPIC, MAX_LEVELS = _TOPIC, _LEVELS


cdef class Publish:
    cdef readonly str topic
    cdef readonly bytes payload
    cdef readonly int qos, packet_id
    cdef readonly bint retain, dup

    def __init__(self, str topic not None, bytes payload not None, int qos=0, bint retain=False, bint dup=False, int packet_id=0):
        self.topic, self.payload, self.qos, self.packet_id = topic, payload, qos, packet_id
        self.retain, self.dup = retain, dup

    cdef tuple _fields(self):
        return self.topic, self.payload, self.qos, self.retain, self.dup, self.packet_id

    def __eq__(self, other):
        return self._fields() == (<Publish>other)._fields() if isinstance(other, Publish) else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return (f"Publish(topic={self.topic!r}, payload={self.payload!r}, qos={self.qos}, retain={self.retain}, dup={self.dup}, "
                f"packet_id={self.packet_id})")


cdef class Puback:
    cdef readonly int packet_id

    def __init__(self, int packet_id):
        self.packet_id = packet_id

    def __eq__(self, other):
        return self.packet_id == (<Puback>other).packet_id if isinstance(other, Puback) else NotImplemented

    def __hash__(self):
        return self.packet_id

    def __repr__(self):
        return f"Puback(packet_id={self.packet_id})"


cdef class PacketBuffer:
    cdef bytearray _data
    cdef Py_ssize_t _at, _limit  # of the first packet that has not been taken out; bytes of a packet
    cdef public int version

    def __init__(self, Py_ssize_t limit, int version=0):
        self._data, self._at, self._limit, self.version = bytearray(), 0, limit, version

    @property
    def waiting(self):
        return PyByteArray_GET_SIZE(self._data) - self._at

    def push(self, data not None, Py_ssize_t size=-1):
        cdef Py_buffer view
        cdef Py_ssize_t before
        if self._at:
            del self._data[:self._at]
            self._at = 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if size < 0 or size > view.len:
                size = view.len
            before = PyByteArray_GET_SIZE(self._data)
            PyByteArray_Resize(self._data, before + size)
            memcpy(PyByteArray_AS_STRING(self._data) + before, view.buf, size)
        finally:
            PyBuffer_Release(&view)

    def next(self):
        cdef Py_ssize_t have = PyByteArray_GET_SIZE(self._data) - self._at, size = 0, start = 1
        cdef unsigned char *data = <unsigned char *>PyByteArray_AS_STRING(self._data) + self._at
        cdef unsigned char first
        cdef object found = None
        cdef bytes body = None
        while True:
            if start >= have:
                return None
            size |= <Py_ssize_t>(data[start] & 0x7F) << 7 * (start - 1)
            start += 1
            if not data[start - 1] & 0x80:
                break
            if start == 5:
                self.overlong(-1, self._limit)
        if size > self._limit:
            self.overlong(size, self._limit)
        if have - start < size:
            return None
        first = data[0]
        if self.version and first >> 4 == 3:
            found = _plain_publish(first & 0xF, data + start, size, self.version)
        elif self.version and first == 0x40 and size == 2 and (data[start] or data[start + 1]):
            found = _plain_puback(data[start] << 8 | data[start + 1])
        if found is None:
            body = PyBytes_FromStringAndSize(<char *>data + start, size)
        self._at += start + size
        if self._at == PyByteArray_GET_SIZE(self._data):
            PyByteArray_Resize(self._data, 0)
            self._at = 0
        return self.decoded(first >> 4, first & 0xF, body) if found is None else found

    def decoded(self, int kind, int flags, bytes body not None):
        raise NotImplementedError

    def overlong(self, Py_ssize_t size, Py_ssize_t limit):
        raise NotImplementedError


cdef Puback _plain_puback(int packet_id):
    cdef Puback made = Puback.__new__(Puback)
    made.packet_id = packet_id
    return made


cdef Publish _plain_publish(int flags, const unsigned char *body, Py_ssize_t size, int version):
    """None: codec.py knows more about it."""
    cdef int qos = flags >> 1 & 3, levels = 0, packet_id = 0
    cdef Py_ssize_t end, at
    cdef Publish made
    if qos > 1 or (not qos and flags & 8) or size < 2:
        return None
    end = 2 + (body[0] << 8 | body[1])
    if end == 2 or end > 2 + _TOPIC or end + 2 * qos + (version == 5) > size:
        return None
    for at in range(2, end):
        if body[at] == 0 or body[at] == 43 or body[at] == 35:  # "+", "#"
            return None
        levels += body[at] == 47  # "/"
    if levels >= _LEVELS:
        return None
    at = end
    if qos:
        packet_id = body[at] << 8 | body[at + 1]
        at += 2
        if not packet_id:
            return None
    if version == 5:
        if body[at]:
            return None
        at += 1
    made = Publish.__new__(Publish)
    try:
        made.topic = PyUnicode_DecodeUTF8(<const char *>body + 2, end - 2, NULL)
    except UnicodeDecodeError:
        return None
    made.payload = PyBytes_FromStringAndSize(<const char *>body + at, size - at)
    made.qos, made.packet_id, made.retain, made.dup = qos, packet_id, flags & 1, flags >> 3 & 1
    return made


def publish_packet(int version, Publish message not None):
    cdef Py_ssize_t topic_size, size, rest, at = 1
    cdef const char *topic = PyUnicode_AsUTF8AndSize(message.topic, &topic_size)
    cdef bytes made
    cdef unsigned char *out
    size = 2 + topic_size + (2 if message.qos else 0) + (version == 5) + PyBytes_GET_SIZE(message.payload)
    if topic_size > 65535 or size > _LARGEST or not 0 <= message.packet_id <= 65535 or not 0 <= message.qos <= 2:
        raise OverflowError("a message that no packet has room for")
    rest = size
    while rest > 0x7F:
        at, rest = at + 1, rest >> 7
    made = PyBytes_FromStringAndSize(NULL, at + 1 + size)
    out = <unsigned char *>PyBytes_AS_STRING(made)
    out[0] = 0x30 | message.dup << 3 | message.qos << 1 | message.retain
    at, rest = 1, size
    while rest > 0x7F:
        out[at] = rest & 0x7F | 0x80
        at, rest = at + 1, rest >> 7
    out[at] = rest
    out[at + 1], out[at + 2] = topic_size >> 8, topic_size & 0xFF
    at += 3
    memcpy(out + at, topic, topic_size)
    at += topic_size
    if message.qos:
        out[at], out[at + 1] = message.packet_id >> 8, message.packet_id & 0xFF
        at += 2
    if version == 5:
        out[at] = 0
        at += 1
    memcpy(out + at, PyBytes_AS_STRING(message.payload), PyBytes_GET_SIZE(message.payload))
    return made


def puback_packet(int version, int packet_id, int code=0):
    cdef unsigned char out[5]
    cdef bint has_code = version == 5 and code != 0
    if not 0 <= packet_id <= 65535:
        raise OverflowError("a packet identifier has 16 bits")
    out[0], out[1], out[2], out[3], out[4] = 0x40, 2 + has_code, packet_id >> 8, packet_id & 0xFF, code & 0xFF
    return PyBytes_FromStringAndSize(<char *>out, 4 + has_code)
