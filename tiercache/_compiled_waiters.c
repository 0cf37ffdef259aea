/* What a task waits for, compiled; see tiercache/_transport/waiters.py.

   It is to a task what a future of asyncio is, and no more: one callback, that of the task which waits. Who
   lands a future leaves its task to the loop's next turn, by a handle for each. `wake` goes on with the task
   there and then, in the task's context, as the handle would.  */

#include "_compiled.h"

enum { WAITING, LANDED, FAILED, CANCELLED };

typedef struct {
    PyObject_HEAD
    State *state;
    PyObject *module; /* to the end, as the State is its */
    PyObject *loop;
    PyObject *callback, *context; /* NULL: nobody waits yet, or any more */
    PyObject *outcome;            /* what was landed, the error, or the message of who cancelled */
    PyObject *trace;              /* of the error, as it came */
    char at;
    char is_awaited; /* by the protocol of asyncio's futures: set when this is yielded, and reset by the task */
} Waiter;

static int
take_callback(Waiter *self, PyObject **callback, PyObject **context)
{
    *callback = self->callback;
    *context = self->context;
    self->callback = self->context = NULL;
    return *callback != NULL;
}

/* Leave *callback* to the loop. */
static int
leave(Waiter *self, PyObject *callback, PyObject *context)
{
    OfWaiters *of = &self->state->of_waiters;
    PyObject *arguments[] = {self->loop, callback, (PyObject *)self, context}, *handle;

    if (self->loop == NULL || of->call_soon == NULL) /* cleared: its task is garbage as well */
        return 0;
    handle = PyObject_VectorcallMethod(of->call_soon, arguments, 3, of->by_name);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static int /* whoever waits goes on in the loop's next turn */
schedule(Waiter *self)
{
    PyObject *callback, *context;
    int done = 0;

    if (take_callback(self, &callback, &context)) {
        done = leave(self, callback, context);
        Py_DECREF(callback);
        Py_DECREF(context);
    }
    return done;
}

static int /* whoever waits goes on now */
go_on(Waiter *self)
{
    PyObject *callback, *context, *done;

    if (!take_callback(self, &callback, &context))
        return 0;
    if (PyContext_Enter(context) < 0) { /* this runs in it */
        PyErr_Clear();
        done = leave(self, callback, context) < 0 ? NULL : Py_NewRef(Py_None);
    }
    else {
        done = PyObject_CallOneArg(callback, (PyObject *)self);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(done);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
end(Waiter *self, char at, PyObject *outcome)
{
    if (self->at != WAITING) {
        PyErr_SetString(PyExc_RuntimeError, "it has been landed or cancelled");
        return -1;
    }
    self->at = at;
    self->outcome = Py_NewRef(outcome);
    return 0;
}

static PyObject * /* what it came to, or NULL with the error */
outcome_of(Waiter *self)
{
    PyObject *error, *made;

    switch (self->at) {
    case LANDED:
        return Py_NewRef(self->outcome);
    case FAILED: /* whoever else has the error, its trace begins anew */
        if (PyException_SetTraceback(self->outcome, self->trace == NULL ? Py_None : self->trace) == 0)
            PyErr_SetObject((PyObject *)Py_TYPE(self->outcome), self->outcome);
        return NULL;
    case CANCELLED:
        error = self->state->of_waiters.cancelled_error;
        if (error == NULL)
            PyErr_SetString(PyExc_RuntimeError, "it was cleared");
        else if (self->outcome == Py_None)
            PyErr_SetNone(error);
        else if ((made = PyObject_CallOneArg(error, self->outcome)) != NULL) {
            PyErr_SetObject(error, made); /* given the message itself, it takes a tuple apart */
            Py_DECREF(made);
        }
        return NULL;
    default:
        PyErr_SetString(PyExc_RuntimeError, "it has not been landed");
        return NULL;
    }
}

static PyObject *
waiter_set_result(Waiter *self, PyObject *result)
{
    if (end(self, LANDED, result) < 0 || schedule(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
waiter_set_exception(Waiter *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "%R is no exception", error);
        return NULL;
    }
    if (end(self, FAILED, error) < 0)
        return NULL;
    self->trace = PyException_GetTraceback(error);
    if (schedule(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
waiter_cancel(Waiter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message))
        return NULL;
    if (self->at != WAITING)
        Py_RETURN_FALSE;
    if (end(self, CANCELLED, message) < 0 || schedule(self) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *
waiter_add_done_callback(Waiter *self, PyObject *const *arguments, Py_ssize_t number, PyObject *by_name)
{
    PyObject *callback, *context = Py_None;
    int named = by_name != NULL && PyTuple_GET_SIZE(by_name) > 0;

    if (number != 1 || (named && (PyTuple_GET_SIZE(by_name) > 1
                                  || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(by_name, 0), "context") != 0))) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback, and a context by name");
        return NULL;
    }
    if (self->callback != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "somebody waits for it already");
        return NULL;
    }
    callback = arguments[0];
    if (named)
        context = arguments[1];
    context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (context == NULL)
        return NULL;
    self->callback = Py_NewRef(callback);
    self->context = context;
    if (self->at != WAITING && schedule(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
waiter_result(Waiter *self, PyObject *Py_UNUSED(nothing))
{
    return outcome_of(self);
}

static PyObject *
waiter_done(Waiter *self, PyObject *Py_UNUSED(nothing))
{
    return PyBool_FromLong(self->at != WAITING);
}

static PyObject *
waiter_get_loop(Waiter *self, PyObject *Py_UNUSED(nothing))
{
    if (self->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it was cleared");
        return NULL;
    }
    return Py_NewRef(self->loop);
}

/* ---- await */

static PySendResult
waiter_send(Waiter *self, PyObject *Py_UNUSED(sent), PyObject **result)
{
    if (self->at == WAITING) {
        self->is_awaited = 1;
        *result = Py_NewRef((PyObject *)self);
        return PYGEN_NEXT;
    }
    *result = outcome_of(self);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PyObject * /* likewise, for who does not know of send */
waiter_next(Waiter *self)
{
    PyObject *result, *end;

    if (waiter_send(self, Py_None, &result) != PYGEN_RETURN)
        return result;
    end = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (end != NULL) {
        PyErr_SetObject(PyExc_StopIteration, end);
        Py_DECREF(end);
    }
    return NULL;
}

/* ---- Waiter */

static PyObject *
waiter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyType_GetModule(type), *loop; /* there are no subclasses */
    State *state = PyModule_GetState(module);
    Waiter *self;

    if (state->of_waiters.cancelled_error == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "use_waiters() comes before Waiter()");
        return NULL;
    }
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Waiter() takes no keywords");
        return NULL;
    }
    if (!PyArg_UnpackTuple(args, "Waiter", 1, 1, &loop))
        return NULL;
    self = (Waiter *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->module = Py_NewRef(module);
    self->state = state;
    self->loop = Py_NewRef(loop);
    return (PyObject *)self;
}

static int
waiter_traverse(Waiter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->outcome);
    Py_VISIT(self->trace);
    return 0;
}

static int
waiter_clear(Waiter *self)
{
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->loop);
    if (self->outcome != NULL) { /* it may be a tuple that leads here, and such a one nobody else takes apart */
        self->at = CANCELLED;    /* which has an outcome, always */
        Py_SETREF(self->outcome, Py_NewRef(Py_None));
    }
    Py_CLEAR(self->trace);
    return 0;
}

static void
waiter_dealloc(Waiter *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    waiter_clear(self);
    Py_CLEAR(self->outcome);
    Py_XDECREF(self->module);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef waiter_methods[] = {
    {"set_result", (PyCFunction)waiter_set_result, METH_O,
     "set_result(result): land it; its task goes on in the loop's next turn."},
    {"set_exception", (PyCFunction)waiter_set_exception, METH_O, "set_exception(error): likewise, with an error."},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS,
     "cancel(msg=None): whether it was not done; its task is then cancelled in the loop's next turn."},
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback(callback, *, context=None): the one of the task that waits."},
    {"result", (PyCFunction)waiter_result, METH_NOARGS, "result(): what it came to."},
    {"done", (PyCFunction)waiter_done, METH_NOARGS, "done(): whether it has been landed or cancelled."},
    {"get_loop", (PyCFunction)waiter_get_loop, METH_NOARGS, "get_loop(): the loop of its task."},
    {NULL},
};

static PyMemberDef waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(Waiter, is_awaited), 0, NULL},
    {NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, "Waiter(loop): what one task waits for; see tiercache._transport.waiters."},
    {Py_tp_new, waiter_new},
    {Py_tp_dealloc, waiter_dealloc},
    {Py_tp_traverse, waiter_traverse},
    {Py_tp_clear, waiter_clear},
    {Py_tp_methods, waiter_methods},
    {Py_tp_members, waiter_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, waiter_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, waiter_send},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "tiercache._compiled.Waiter",
    .basicsize = sizeof(Waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = waiter_slots,
};

/* ---- of the module */

static int
wake_one(State *state, PyObject *one, PyObject *result, int now)
{
    Waiter *waiter = (Waiter *)one;

    if (!Py_IS_TYPE(one, state->of_waiters.waiter_type)) {
        PyErr_Format(PyExc_TypeError, "%R is no Waiter", one);
        return -1;
    }
    if (waiter->at != WAITING) /* its task was cancelled */
        return 0;
    if (end(waiter, LANDED, result) < 0)
        return -1;
    return now ? go_on(waiter) : schedule(waiter);
}

static PyObject *
wake(PyObject *module, PyObject *const *arguments, Py_ssize_t number)
{
    State *state = PyModule_GetState(module);
    PyObject *waiters, *results, *type = NULL, *error = NULL, *trace = NULL;

    if (number != 2 || !PyList_CheckExact(arguments[0]) || !PyList_CheckExact(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "wake() takes a list of waiters, and one of what each is to have");
        return NULL;
    }
    waiters = arguments[0];
    results = arguments[1];
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters) && i < PyList_GET_SIZE(results); i++) {
        PyObject *one = Py_NewRef(PyList_GET_ITEM(waiters, i)), *result = Py_NewRef(PyList_GET_ITEM(results, i));
        /* One that ends the process, by SystemExit or ^C, goes up to the loop; the others stay in it. */
        if (wake_one(state, one, result, type == NULL) < 0) {
            if (type == NULL)
                PyErr_Fetch(&type, &error, &trace);
            else
                PyErr_Clear();
        }
        Py_DECREF(one);
        Py_DECREF(result);
    }
    if (type == NULL)
        Py_RETURN_NONE;
    PyErr_Restore(type, error, trace);
    return NULL;
}

static PyObject *
use_waiters(PyObject *module, PyObject *cancelled_error)
{
    OfWaiters *of = &((State *)PyModule_GetState(module))->of_waiters;

    Py_XSETREF(of->cancelled_error, Py_NewRef(cancelled_error));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"use_waiters", use_waiters, METH_O, "use_waiters(CancelledError): what a task that is cancelled meets."},
    {"wake", (PyCFunction)(void (*)(void))wake, METH_FASTCALL,
     "wake(waiters, results): land each that is not done, and go on with its task; from a callback of the\n"
     "loop, never from a task."},
    {NULL},
};

int
add_waiters(PyObject *module, State *state)
{
    OfWaiters *of = &state->of_waiters;

    if ((of->call_soon = PyUnicode_InternFromString("call_soon")) == NULL
        || (of->by_name = Py_BuildValue("(s)", "context")) == NULL
        || (of->waiter_type = added_type(module, &waiter_spec)) == NULL)
        return -1;
    return PyModule_AddFunctions(module, methods);
}

#define EACH(of, ask) ask((of)->waiter_type); ask((of)->cancelled_error); ask((of)->call_soon); ask((of)->by_name)

int
traverse_waiters(OfWaiters *of, visitproc visit, void *arg)
{
    EACH(of, Py_VISIT);
    return 0;
}

void
clear_waiters(OfWaiters *of)
{
    EACH(of, Py_CLEAR);
}
