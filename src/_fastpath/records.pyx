# cython: language_level=3
"""The methods that all classes of kubeedge.kit.dataclasses share. Each reads the table of its object's class, where the standard library compiles
methods for every class."""

from dataclasses import FrozenInstanceError
from reprlib import recursive_repr

from cpython.object cimport PyObject, Py_EQ, PyObject_GenericSetAttr, PyObject_RichCompareBool


cdef extern from *:
    PyObject *_item "PyDict_GetItemWithError"(object, object) except? NULL


cdef class Table:
    """The fields of one class. `positional` may be given by place, `keywords` by name alone."""

    cdef readonly tuple names, positional, keywords, compared, shown
    cdef readonly dict defaults, factories, metadata
    cdef public dict fields  # the standard library's, once somebody has asked

    def __init__(self, tuple names not None, tuple positional not None, tuple keywords not None, tuple compared not None,
                 tuple shown not None, dict defaults, dict factories, dict metadata):
        self.names, self.positional, self.keywords, self.compared, self.shown = names, positional, keywords, compared, shown
        self.defaults, self.factories, self.metadata = defaults, factories, metadata


cdef Table table_of(object self):
    return type(self).__dataclass_table__


cdef object absent(Table table, object self, str name):
    """The value of a field that was not given."""
    cdef PyObject *found
    if table.defaults is not None:
        found = _item(table.defaults, name)
        if found is not NULL:
            return <object>found
    if table.factories is not None:
        found = _item(table.factories, name)
        if found is not NULL:
            return (<object>found)()
    raise TypeError(f"{type(self).__qualname__}.__init__() missing a required argument: {name!r}")


def initialise(self, /, *args, **given):
    """As __init__ of a dataclass."""
    cdef Table table = table_of(self)
    cdef Py_ssize_t index, used = 0, count = len(args), named = len(given)
    cdef str name
    cdef PyObject *found
    if count > len(table.positional):
        raise TypeError(f"{type(self).__qualname__}.__init__() takes {len(table.positional)} positional arguments but {count} were given")
    for index in range(count):
        PyObject_GenericSetAttr(self, table.positional[index], args[index])
    for index in range(count, len(table.positional) + len(table.keywords)):
        if index < len(table.positional):
            name = table.positional[index]
        else:
            name = table.keywords[index - len(table.positional)]
        found = _item(given, name) if used < named else NULL
        if found is not NULL:
            used += 1
            PyObject_GenericSetAttr(self, name, <object>found)
        else:
            PyObject_GenericSetAttr(self, name, absent(table, self, name))
    if used != named:
        for name in given:
            if name in table.positional[:count]:
                raise TypeError(f"{type(self).__qualname__}.__init__() got multiple values for argument {name!r}")
            if name not in table.names:
                raise TypeError(f"{type(self).__qualname__}.__init__() got an unexpected keyword argument {name!r}")


def equal(self, other, /):
    """As __eq__ of a dataclass: of one class, and field by field."""
    if type(self) is not type(other):
        return NotImplemented
    for name in table_of(self).compared:
        if not PyObject_RichCompareBool(getattr(self, name), getattr(other, name), Py_EQ):
            return False
    return True


def hashed(self, /):
    """As __hash__ of a frozen dataclass."""
    return hash(tuple([getattr(self, name) for name in table_of(self).compared]))


def _shown(self):
    values = ", ".join([f"{name}={getattr(self, name)!r}" for name in table_of(self).shown])
    return f"{type(self).__qualname__}({values})"


shown = recursive_repr()(_shown)  # "..." where an object is part of itself


def refuse_to_set(self, name, value, /):
    """As __setattr__ of a frozen dataclass."""
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def refuse_to_delete(self, name, /):
    """As __delattr__ of a frozen dataclass."""
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def state(self, /):
    """For pickle and copy, which would set fields of a frozen object."""
    return [getattr(self, name) for name in table_of(self).names]


def set_state(self, values, /):
    """The other way."""
    for name, value in zip(table_of(self).names, values):
        PyObject_GenericSetAttr(self, name, value)
