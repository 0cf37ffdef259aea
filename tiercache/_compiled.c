/* The hit path, compiled: the rules that stand in tiercache/_hits.py, and no other; and the module.

   A Look answers a call, by those of its arguments that count, or raises Missing where nothing is
   filed under them, or Unanswered: then the path in Python looks, and everything unusual is its to
   do, errors of arguments too. It reads what is
   in the slots of Python's own classes, so that both paths serve the same entries.

   All of it runs under the GIL. A look-up (an argument's __hash__ or __eq__), a clock other than
   the system's and a restore run foreign code: what is used after one of these is owned, or read
   anew. Each interpreter that imports it, and each import anew, has a State, and nothing is shared.  */

#include "_compiled.h"
#include <math.h>
#include <time.h>

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

/* ---- Tally: the base of Counts, with a number that C can count up */

typedef struct {
    PyObject_HEAD
    long long l1_hits;
} Tally;

static PyMemberDef tally_members[] = {
    {"l1_hits", T_LONGLONG, offsetof(Tally, l1_hits), 0, "answers out of L1"},
    {NULL},
};

static PyType_Slot tally_slots[] = {
    {Py_tp_doc, "Tally(): the hits in L1 of one function, or of one view."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_members, tally_members},
    {0, NULL},
};

static PyType_Spec tally_spec = {
    .name = "tiercache._compiled.Tally",
    .basicsize = sizeof(Tally),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tally_slots,
};

/* ---- Timed */

static PyMemberDef timed_members[] = {
    {"deadline", T_DOUBLE, offsetof(Timed, deadline), 0, "until when it may be served"},
    {"stamp", T_DOUBLE, offsetof(Timed, stamp), 0, "when it was last used"},
    {NULL},
};

static PyType_Slot timed_slots[] = {
    {Py_tp_doc, "Timed(): two instants, at no cost beside their bytes."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_members, timed_members},
    {0, NULL},
};

static PyType_Spec timed_spec = {
    .name = "tiercache._compiled.Timed",
    .basicsize = sizeof(Timed),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timed_slots,
};

/* ---- copies of values */

static PyObject *copied(PyObject *);

static int
has_parts(PyObject *value)
{
    return PyDict_CheckExact(value) || PyList_CheckExact(value) || PySet_CheckExact(value)
        || PyByteArray_CheckExact(value);
}

static PyObject *
copied_dict(PyObject *whole)
{
    PyObject *own = PyDict_Copy(whole), *key, *part;
    Py_ssize_t at = 0;

    if (own == NULL)
        return NULL;
    /* Nobody else knows `own`, and to set a key that it has does not move the others. */
    while (PyDict_Next(own, &at, &key, &part)) {
        if (has_parts(part)) {
            PyObject *inner = copied(part);
            if (inner == NULL || PyDict_SetItem(own, key, inner) < 0) {
                Py_XDECREF(inner);
                Py_DECREF(own);
                return NULL;
            }
            Py_DECREF(inner);
        }
    }
    return own;
}

static PyObject *
copied_list(PyObject *whole)
{
    PyObject *own = PyList_GetSlice(whole, 0, PyList_GET_SIZE(whole));

    if (own == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(own); i++) {
        PyObject *part = PyList_GET_ITEM(own, i);
        if (has_parts(part)) {
            PyObject *inner = copied(part);
            if (inner == NULL) {
                Py_DECREF(own);
                return NULL;
            }
            PyList_SET_ITEM(own, i, inner);
            Py_DECREF(part);
        }
    }
    return own;
}

static PyObject *
copied(PyObject *whole)
{
    PyObject *own;

    if (Py_EnterRecursiveCall(" while copying a value"))
        return NULL;
    if (PyDict_CheckExact(whole))
        own = copied_dict(whole);
    else if (PyList_CheckExact(whole))
        own = copied_list(whole);
    else if (PySet_CheckExact(whole))
        own = PySet_New(whole);
    else if (PyByteArray_CheckExact(whole))
        own = PyByteArray_FromObject(whole);
    else
        own = Py_NewRef(whole);
    Py_LeaveRecursiveCall();
    return own;
}

static PyObject *
copy(PyObject *Py_UNUSED(module), PyObject *whole)
{
    return copied(whole);
}

/* ---- Look */

typedef struct {
    PyObject_HEAD
    PyObject *module; /* to the end: a Look that is cleared still asks its State */
    State *state;
    PyObject *core, *clock, *counts, *table; /* NULL, all of them, while it is unbound */
} Look;

static double /* -inf for what is no float */
instant(PyObject *object)
{
    return object != NULL && PyFloat_CheckExact(object) ? PyFloat_AS_DOUBLE(object) : -INFINITY;
}

static PyObject * /* owned; NULL, perhaps with an error, where there is none */
found(Look *self, PyObject *key)
{
    PyObject *table = Py_NewRef(self->table); /* an __eq__ may bind the Look to another one */
    PyObject *entry = Py_XNewRef(PyDict_GetItemWithError(table, key));

    Py_DECREF(table);
    return entry;
}

int
read_clock(State *state, PyObject *clock, double *now)
{
    PyObject *told;

#ifdef __linux__
    if (clock == state->system_monotonic) {
        struct timespec read;
        if (clock_gettime(CLOCK_MONOTONIC, &read) == 0) {
            /* Rounded as time.monotonic() does: one division of the whole nanoseconds. */
            *now = (double)((long long)read.tv_sec * 1000000000LL + read.tv_nsec) / 1e9;
            return 0;
        }
    }
#endif
    Py_INCREF(clock);
    told = PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
    if (told == NULL)
        return -1;
    *now = PyFloat_AsDouble(told);
    Py_DECREF(told);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
restored(State *state, PyObject *entry)
{
    PyObject *value = Py_NewRef(SLOT(entry, state->at_value)), *restore = SLOT(entry, state->at_restore), *own;

    if (restore == Py_None)
        return value;
    if (restore == state->copy_function)
        own = copied(value);
    else {
        Py_INCREF(restore);
        own = PyObject_CallOneArg(restore, value);
        Py_DECREF(restore);
    }
    Py_DECREF(value);
    return own;
}

static int
is_kind_of(PyObject *kind, PyObject *const *arguments, Py_ssize_t number)
{
    if (kind == NULL || !PyTuple_CheckExact(kind) || PyTuple_GET_SIZE(kind) != number)
        return 0;
    for (Py_ssize_t i = 0; i < number; i++)
        if (PyTuple_GET_ITEM(kind, i) != (PyObject *)Py_TYPE(arguments[i]))
            return 0;
    return 1;
}

/* The value under *key*. *arguments* are those that it is made of; none: it is the one argument itself. */
static PyObject *
answer(Look *self, PyObject *key, PyObject *const *arguments, Py_ssize_t number)
{
    State *state = self->state;
    PyObject *entry, *kind, *value;
    double until, now;

    if (self->table == NULL)
        goto elsewhere;
    until = instant(SLOT(self->core, state->at_open_until)); /* before the entry is found (R32) */
    entry = found(self, key);
    if (entry == NULL) {
        /* Python's path meets the same error, and knows what becomes of it. */
        if (PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_Exception))
                return NULL;
            PyErr_Clear();
            goto elsewhere;
        }
        PyErr_SetNone(state->missing == NULL ? PyExc_RuntimeError : state->missing);
        return NULL;
    }
    now = INFINITY; /* where it was unbound meanwhile */
    if (self->clock != NULL && read_clock(state, self->clock, &now) < 0) {
        Py_DECREF(entry);
        return NULL;
    }
    /* From here to the restore no foreign code runs, and no other thread. */
    if (self->counts == NULL || !Py_IS_TYPE(entry, state->entry_type) || !(now < until)
        || !(now < ((Timed *)entry)->deadline)) {
        Py_DECREF(entry);
        goto elsewhere;
    }
    kind = SLOT(entry, state->at_kind);
    if (SLOT(entry, state->at_value) == NULL || SLOT(entry, state->at_restore) == NULL
        || !(arguments == NULL ? kind == (PyObject *)Py_TYPE(key) : is_kind_of(kind, arguments, number))) {
        Py_DECREF(entry);
        goto elsewhere;
    }
    ((Timed *)entry)->stamp = now;
    ((Tally *)self->counts)->l1_hits++;
    value = restored(state, entry);
    Py_DECREF(entry);
    return value;

elsewhere:
    PyErr_SetNone(state->unanswered == NULL ? PyExc_RuntimeError : state->unanswered);
    return NULL;
}

static PyObject *
look_one(Look *self, PyObject *argument)
{
    return answer(self, argument, NULL, 0);
}

static PyObject *
look_many(Look *self, PyObject *const *arguments, Py_ssize_t number)
{
    PyObject *key = PyTuple_New(number), *value;

    if (key == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < number; i++)
        PyTuple_SET_ITEM(key, i, Py_NewRef(arguments[i]));
    value = answer(self, key, arguments, number);
    Py_DECREF(key);
    return value;
}

static PyObject *
look_bind(Look *self, PyObject *args)
{
    PyObject *core, *clock, *counts, *table;
    State *state = self->state;
    Look before = *self;

    if (state->core_type == NULL || state->tally_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "use() comes before bind()");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!OO!O!:bind", state->core_type, &core, &clock, state->tally_type, &counts,
                          &PyDict_Type, &table))
        return NULL;
    self->core = Py_NewRef(core);
    self->clock = Py_NewRef(clock);
    self->counts = Py_NewRef(counts);
    self->table = Py_NewRef(table);
    /* Last, for it may run anything. */
    Py_XDECREF(before.core);
    Py_XDECREF(before.clock);
    Py_XDECREF(before.counts);
    Py_XDECREF(before.table);
    Py_RETURN_NONE;
}

static int
look_clear(Look *self)
{
    Look before = *self;

    self->core = self->clock = self->counts = self->table = NULL;
    Py_XDECREF(before.core);
    Py_XDECREF(before.clock);
    Py_XDECREF(before.counts);
    Py_XDECREF(before.table);
    return 0;
}

static PyObject *
look_unbind(Look *self, PyObject *Py_UNUSED(nothing))
{
    look_clear(self);
    Py_RETURN_NONE;
}

static PyObject *
look_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Look *self;

    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Look() takes no arguments");
        return NULL;
    }
    self = (Look *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->module = Py_NewRef(PyType_GetModule(type)); /* there are no subclasses */
        self->state = PyModule_GetState(self->module);
    }
    return (PyObject *)self;
}

static int
look_traverse(Look *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT(self->core);
    Py_VISIT(self->clock);
    Py_VISIT(self->counts);
    Py_VISIT(self->table);
    return 0;
}

static void
look_dealloc(Look *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    look_clear(self);
    Py_DECREF(self->module);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef look_methods[] = {
    {"one", (PyCFunction)look_one, METH_O,
     "one(argument): the value of the call whose only argument that counts is this one."},
    {"many", (PyCFunction)(void (*)(void))look_many, METH_FASTCALL,
     "many(*arguments): the value of the call whose arguments that count are these."},
    {"bind", (PyCFunction)look_bind, METH_VARARGS,
     "bind(core, clock, counts, table): where to look from now on."},
    {"unbind", (PyCFunction)look_unbind, METH_NOARGS, "unbind(): answer nothing any more."},
    {NULL},
};

static PyType_Slot look_slots[] = {
    {Py_tp_doc, "Look(): answers hits, each as the path in Python would; Missing or Unanswered for any other call."},
    {Py_tp_new, look_new},
    {Py_tp_dealloc, look_dealloc},
    {Py_tp_traverse, look_traverse},
    {Py_tp_clear, look_clear},
    {Py_tp_methods, look_methods},
    {0, NULL},
};

static PyType_Spec look_spec = {
    .name = "tiercache._compiled.Look",
    .basicsize = sizeof(Look),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = look_slots,
};

/* ---- the module */

int
offset_of(PyObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *slot = PyObject_GetAttrString(type, name);
    int is_slot;

    if (slot == NULL)
        return -1;
    is_slot = Py_IS_TYPE(slot, &PyMemberDescr_Type)
           && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;
    if (is_slot)
        *offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    else
        PyErr_Format(PyExc_TypeError, "%s of %R is no slot", name, type);
    Py_DECREF(slot);
    return is_slot ? 0 : -1;
}

static PyObject *
use(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyObject *entry, *core;

    if (!PyArg_ParseTuple(args, "O!O!:use", &PyType_Type, &entry, &PyType_Type, &core))
        return NULL;
    if (state->core_type != NULL
        && (entry != (PyObject *)state->entry_type || core != (PyObject *)state->core_type)) {
        /* What is bound has cores of those; their slots may be elsewhere. */
        PyErr_SetString(PyExc_RuntimeError, "use() was called with other classes before");
        return NULL;
    }
    if (state->timed_type == NULL || !PyType_IsSubtype((PyTypeObject *)entry, state->timed_type)) {
        PyErr_Format(PyExc_TypeError, "%R is no Timed", entry);
        return NULL;
    }
    if (offset_of(entry, "value", &state->at_value) < 0 || offset_of(entry, "restore", &state->at_restore) < 0
        || offset_of(entry, "kind", &state->at_kind) < 0
        || offset_of(core, "open_until", &state->at_open_until) < 0)
        return NULL;
    Py_XSETREF(state->entry_type, (PyTypeObject *)Py_NewRef(entry));
    Py_XSETREF(state->core_type, (PyTypeObject *)Py_NewRef(core));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"use", use, METH_VARARGS, "use(Entry, Coherence): the classes whose slots to read; before any bind()."},
    {"copy", copy, METH_O,
     "copy(value): with its dicts, lists, sets and bytearrays copied, at every depth; all else shared."},
    {NULL},
};

static PyObject *
monotonic_of_time(void)
{
    PyObject *module = PyImport_ImportModule("time"), *clock;

    if (module == NULL)
        return NULL;
    clock = PyObject_GetAttrString(module, "monotonic");
    Py_DECREF(module);
    if (clock != NULL && !PyCFunction_CheckExact(clock))
        Py_SETREF(clock, Py_NewRef(Py_None)); /* a test has put its own there */
    return clock;
}

PyTypeObject *
added_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);

    if ((state->look_type = added_type(module, &look_spec)) == NULL
        || (state->tally_type = added_type(module, &tally_spec)) == NULL
        || (state->timed_type = added_type(module, &timed_spec)) == NULL
        || (state->unanswered = PyErr_NewException("tiercache._compiled.Unanswered", NULL, NULL)) == NULL
        || PyModule_AddObjectRef(module, "Unanswered", state->unanswered) < 0
        || (state->missing = PyErr_NewException("tiercache._compiled.Missing", NULL, NULL)) == NULL
        || PyModule_AddObjectRef(module, "Missing", state->missing) < 0
        || (state->copy_function = PyObject_GetAttrString(module, "copy")) == NULL
        || (state->system_monotonic = monotonic_of_time()) == NULL || add_entries(module, state) < 0
        || add_looks(module, state) < 0 || add_names(module, state) < 0 || add_glances(module, state) < 0
        || add_waiters(module, state) < 0)
        return -1;
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    int status;

    Py_VISIT(state->look_type);
    Py_VISIT(state->tally_type);
    Py_VISIT(state->timed_type);
    Py_VISIT(state->entry_type);
    Py_VISIT(state->core_type);
    Py_VISIT(state->unanswered);
    Py_VISIT(state->missing);
    Py_VISIT(state->copy_function);
    Py_VISIT(state->system_monotonic);
    Py_VISIT(state->looked_type);
    Py_VISIT(state->stored_type);
    Py_VISIT(state->parse_in_python);
    Py_VISIT(state->good_in_python);
    Py_VISIT(state->crc32);
    Py_VISIT(state->namer_type);
    status = traverse_glances(&state->of_glances, visit, arg);
    return status != 0 ? status : traverse_waiters(&state->of_waiters, visit, arg);
}

static int
module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);

    Py_CLEAR(state->look_type);
    Py_CLEAR(state->tally_type);
    Py_CLEAR(state->timed_type);
    Py_CLEAR(state->entry_type);
    Py_CLEAR(state->core_type);
    Py_CLEAR(state->unanswered);
    Py_CLEAR(state->missing);
    Py_CLEAR(state->copy_function);
    Py_CLEAR(state->system_monotonic);
    Py_CLEAR(state->looked_type);
    Py_CLEAR(state->stored_type);
    Py_CLEAR(state->parse_in_python);
    Py_CLEAR(state->good_in_python);
    Py_CLEAR(state->crc32);
    Py_CLEAR(state->namer_type);
    clear_glances(&state->of_glances);
    clear_waiters(&state->of_waiters);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tiercache._compiled",
    .m_doc = "Hits and looks, compiled; see tiercache._hits and tiercache._core.looks.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    return PyModuleDef_Init(&definition);
}
