# cython: language_level=3
"""Keys with the libcrypto that `ssl` and the data plane have loaded anyway: an agent has no other library for them. Its own are on P-256; those of
pods are of the kinds that Kubernetes names.

Private keys are PKCS #8 (RFC 5958) in DER. Nothing is kept between two calls.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE


cdef extern from * nogil:
    """
    #include <openssl/crypto.h>
    #include <openssl/err.h>
    #include <openssl/evp.h>
    #include <openssl/rsa.h>
    #include <openssl/x509.h>
    static EVP_PKEY *kb_generate(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"); }
    static EVP_PKEY *kb_generate_ec(const char *curve) { return EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve); }
    static int kb_go_on(EVP_PKEY_CTX *context) {
        const volatile unsigned char *stop = EVP_PKEY_CTX_get_app_data(context);
        return stop == NULL || *stop == 0;
    }
    static EVP_PKEY *kb_generate_rsa(int bits, unsigned char *stop) {
        EVP_PKEY *key = NULL;
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        if (context != NULL && EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_CTX_set_rsa_keygen_bits(context, bits) > 0) {
            EVP_PKEY_CTX_set_app_data(context, stop);
            EVP_PKEY_CTX_set_cb(context, kb_go_on); /* between two tries of a prime */
            if (EVP_PKEY_generate(context, &key) <= 0) key = NULL;
        }
        EVP_PKEY_CTX_free(context);
        return key;
    }
    static EVP_PKEY *kb_generate_ed25519(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); }
    static int kb_is_ec(const EVP_PKEY *key) { return EVP_PKEY_is_a(key, "EC"); }
    """
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct PKCS8_PRIV_KEY_INFO:
        pass
    ctypedef struct X509_REQ:
        pass
    EVP_PKEY *kb_generate()
    EVP_PKEY *kb_generate_ec(const char *curve)
    EVP_PKEY *kb_generate_rsa(int bits, unsigned char *stop)
    EVP_PKEY *kb_generate_ed25519()
    int kb_is_ec(const EVP_PKEY *key)
    const EVP_MD *EVP_sha256()
    const EVP_MD *EVP_sha384()
    const EVP_MD *EVP_sha512()
    X509_REQ *X509_REQ_new()
    void X509_REQ_free(X509_REQ *request)
    int X509_REQ_set_version(X509_REQ *request, long version)
    int X509_REQ_set_pubkey(X509_REQ *request, EVP_PKEY *key)
    int X509_REQ_sign(X509_REQ *request, EVP_PKEY *key, const EVP_MD *digest)
    int i2d_X509_REQ(const X509_REQ *request, unsigned char **out)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *context)
    void EVP_PKEY_free(EVP_PKEY *key)
    int EVP_DigestSignInit(EVP_MD_CTX *context, void **parameters, const EVP_MD *digest, void *engine, EVP_PKEY *key)
    int EVP_DigestSign(
        EVP_MD_CTX *context, unsigned char *signature, size_t *signature_size, const unsigned char *data, size_t size)
    PKCS8_PRIV_KEY_INFO *EVP_PKEY2PKCS8(const EVP_PKEY *key)
    void PKCS8_PRIV_KEY_INFO_free(PKCS8_PRIV_KEY_INFO *info)
    int i2d_PKCS8_PRIV_KEY_INFO(const PKCS8_PRIV_KEY_INFO *info, unsigned char **out)
    EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **key, const unsigned char **data, long size)
    int i2d_PUBKEY(const EVP_PKEY *key, unsigned char **out)
    void OPENSSL_clear_free(void *pointer, size_t size)
    void ERR_clear_error()


cdef bytes taken(unsigned char *der, int size):
    """What libcrypto has allocated, as bytes; its own copy is overwritten."""
    if der == NULL or size <= 0:
        ERR_clear_error()  # the queue is the thread's: `ssl` would take what is left there for its own
        raise MemoryError("libcrypto could not encode a key")
    try:
        return PyBytes_FromStringAndSize(<char *> der, size)
    finally:
        OPENSSL_clear_free(der, <size_t> size)


cdef bytes as_pkcs8(EVP_PKEY *key):
    cdef PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key)
    cdef unsigned char *der = NULL
    cdef int size = 0
    if info != NULL:
        size = i2d_PKCS8_PRIV_KEY_INFO(info, &der)
        PKCS8_PRIV_KEY_INFO_free(info)
    return taken(der, size)


cdef EVP_PKEY *loaded(bytes private) except NULL:
    """To be freed. Raises ValueError."""
    cdef const unsigned char *der = <const unsigned char *> PyBytes_AS_STRING(private)
    cdef EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, <long> PyBytes_GET_SIZE(private))
    if key != NULL and not kb_is_ec(key):
        EVP_PKEY_free(key)
        key = NULL
    ERR_clear_error()
    if key == NULL:
        raise ValueError("not an elliptic-curve key")
    return key


def generate():
    """A new key. Raises OSError when libcrypto has no random numbers."""
    cdef EVP_PKEY *key
    with nogil:
        key = kb_generate()
    if key == NULL:
        ERR_clear_error()
        raise OSError("libcrypto could not make a key")
    try:
        return as_pkcs8(key)
    finally:
        EVP_PKEY_free(key)


def checked(bytes private not None, /):
    """The same key as PKCS #8, which may come as RFC 5915 has it, too. Raises ValueError for anything but an elliptic-curve key."""
    cdef EVP_PKEY *key = loaded(private)
    try:
        return as_pkcs8(key)
    finally:
        EVP_PKEY_free(key)


def public_key(bytes private not None, /):
    """Its SubjectPublicKeyInfo (RFC 5480) in DER. Raises ValueError for anything but an elliptic-curve key."""
    cdef EVP_PKEY *key = loaded(private)
    cdef unsigned char *der = NULL
    cdef int size = i2d_PUBKEY(key, &der)
    EVP_PKEY_free(key)
    return taken(der, size)


def sign(bytes private not None, bytes data not None, /):
    """ECDSA with SHA-256, in DER. Raises ValueError for anything but an elliptic-curve key."""
    cdef const unsigned char *c_data = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef size_t size = <size_t> PyBytes_GET_SIZE(data)
    cdef unsigned char[256] signature
    cdef size_t signature_size = sizeof(signature)
    cdef EVP_PKEY *key = loaded(private)
    cdef EVP_MD_CTX *context = EVP_MD_CTX_new()
    cdef int done = 0
    if context != NULL:
        with nogil:
            if EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1:
                done = EVP_DigestSign(context, signature, &signature_size, c_data, size)
    EVP_MD_CTX_free(context)
    EVP_PKEY_free(key)
    ERR_clear_error()
    if done != 1:
        raise ValueError("this key cannot sign")
    return PyBytes_FromStringAndSize(<char *> signature, <Py_ssize_t> signature_size)


cdef EVP_PKEY *made(str kind, unsigned char *stop) except? NULL:
    """To be freed; NULL: libcrypto could not. Raises ValueError for a kind that there is not."""
    cdef EVP_PKEY *key = NULL
    cdef const char *curve = NULL
    cdef int bits = 0
    if kind in ("ECDSAP256", "ECDSAP384", "ECDSAP521"):
        curve = b"P-256" if kind == "ECDSAP256" else b"P-384" if kind == "ECDSAP384" else b"P-521"
    elif kind in ("RSA3072", "RSA4096"):
        bits = 3072 if kind == "RSA3072" else 4096
    elif kind != "ED25519":
        raise ValueError(f"{kind!r:.40} is no kind of key")
    with nogil:
        if curve != NULL:
            key = kb_generate_ec(curve)
        elif bits:
            key = kb_generate_rsa(bits, stop)  # takes seconds
        else:
            key = kb_generate_ed25519()
    return key


def request(str kind not None, bytearray stop=None, /):
    """A new key and an empty request (PKCS #10) that it has signed, both in DER; it may take seconds, without the GIL. `stop`: one byte; once it is not
    0 a key of RSA is given up. Raises ValueError for a kind that there is not, InterruptedError for one that was given up, OSError when libcrypto
    has no random numbers."""
    cdef Py_buffer held
    if stop is None:
        stop = bytearray(1)
    if PyByteArray_GET_SIZE(stop) != 1:
        raise ValueError("`stop` has one byte")
    PyObject_GetBuffer(stop, &held, PyBUF_SIMPLE)  # its byte stays where it is
    try:
        return asked_with(kind, <unsigned char *> held.buf)
    finally:
        PyBuffer_Release(&held)


cdef asked_with(str kind, unsigned char *stop):
    cdef EVP_PKEY *key = made(kind, stop)
    cdef X509_REQ *asked = NULL
    cdef const EVP_MD *digest = EVP_sha256()
    cdef unsigned char *der = NULL
    cdef int size = 0
    if kind == "ED25519":
        digest = NULL  # it has its own
    elif kind == "ECDSAP384":
        digest = EVP_sha384()
    elif kind == "ECDSAP521":
        digest = EVP_sha512()
    if key == NULL:
        ERR_clear_error()
        if stop[0]:
            raise InterruptedError("the key was given up")
        raise OSError("libcrypto could not make a key")
    try:
        with nogil:
            asked = X509_REQ_new()
            if asked != NULL and X509_REQ_set_version(asked, 0) == 1 and X509_REQ_set_pubkey(asked, key) == 1:
                if X509_REQ_sign(asked, key, digest) > 0:
                    size = i2d_X509_REQ(asked, &der)
        return as_pkcs8(key), taken(der, size)
    finally:
        X509_REQ_free(asked)
        EVP_PKEY_free(key)
