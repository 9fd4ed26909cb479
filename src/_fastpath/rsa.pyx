# cython: language_level=3
"""RSA and AES-CBC as OPC-UA's secure channels have them (OPC 10000-7, Basic256Sha256), with the libcrypto that is loaded anyway.

Private keys are in DER, PKCS #8 or PKCS #1; public keys are a SubjectPublicKeyInfo. Nothing is kept between two calls. New designs have no use for
this file: neither mode authenticates what it encrypts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

BLOCK = 16
OVERHEAD = 42  # bytes of each block of RSA that OAEP with SHA-1 takes


cdef extern from * nogil:
    """
    #include <openssl/err.h>
    #include <openssl/evp.h>
    #include <openssl/rsa.h>
    #include <openssl/x509.h>
    #include <openssl/x509v3.h>
    #include <string.h>
    static int kb_is_rsa(const EVP_PKEY *key) { return EVP_PKEY_is_a(key, "RSA"); }
    static EVP_PKEY_CTX *kb_oaep(EVP_PKEY *key, int encrypt) {
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
        if (context != NULL && (encrypt ? EVP_PKEY_encrypt_init(context) : EVP_PKEY_decrypt_init(context)) == 1 &&
            EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1)
            return context;
        EVP_PKEY_CTX_free(context);
        return NULL;
    }
    static int kb_cbc(const unsigned char *key, const unsigned char *iv, const unsigned char *data, int size, unsigned char *out, int encrypt) {
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        int written = 0;
        int done = context != NULL && EVP_CipherInit_ex2(context, EVP_aes_256_cbc(), key, iv, encrypt, NULL) == 1 &&
                   EVP_CIPHER_CTX_set_padding(context, 0) == 1 && EVP_CipherUpdate(context, out, &written, data, size) == 1;
        EVP_CIPHER_CTX_free(context);
        return done && written == size;
    }
    /* the first URI of the subject's other names; its length, or -1 */
    static int kb_uri(const unsigned char *der, long size, char *out, int room) {
        X509 *certificate = d2i_X509(NULL, &der, size);
        GENERAL_NAMES *names = certificate == NULL ? NULL : X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        int found = -1;
        for (int n = 0; names != NULL && n < sk_GENERAL_NAME_num(names); n++) {
            const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, n);
            if (name->type == GEN_URI && ASN1_STRING_length(name->d.uniformResourceIdentifier) <= room) {
                found = ASN1_STRING_length(name->d.uniformResourceIdentifier);
                memcpy(out, ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), (size_t) found);
                break;
            }
        }
        GENERAL_NAMES_free(names);
        X509_free(certificate);
        return found;
    }
    /* the public key of a certificate, to be freed with OPENSSL_free; its length, or -1 */
    static int kb_public(const unsigned char *der, long size, unsigned char **out) {
        X509 *certificate = d2i_X509(NULL, &der, size);
        int found = certificate == NULL ? -1 : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), out);
        X509_free(certificate);
        return found;
    }
    static void kb_free(void *pointer) { OPENSSL_free(pointer); }
    """
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_PKEY_CTX:
        pass
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    int kb_is_rsa(const EVP_PKEY *key)
    EVP_PKEY_CTX *kb_oaep(EVP_PKEY *key, int encrypt)
    int kb_cbc(const unsigned char *key, const unsigned char *iv, const unsigned char *data, int size, unsigned char *out, int encrypt)
    int kb_public(const unsigned char *der, long size, unsigned char **out)
    void kb_free(void *pointer)
    int kb_uri(const unsigned char *der, long size, char *out, int room)
    int EVP_PKEY_get_size(const EVP_PKEY *key)
    void EVP_PKEY_free(EVP_PKEY *key)
    void EVP_PKEY_CTX_free(EVP_PKEY_CTX *context)
    int EVP_PKEY_encrypt(EVP_PKEY_CTX *context, unsigned char *out, size_t *written, const unsigned char *data, size_t size)
    int EVP_PKEY_decrypt(EVP_PKEY_CTX *context, unsigned char *out, size_t *written, const unsigned char *data, size_t size)
    const EVP_MD *EVP_sha256()
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *context)
    int EVP_DigestSignInit(EVP_MD_CTX *context, void **parameters, const EVP_MD *digest, void *engine, EVP_PKEY *key)
    int EVP_DigestSign(
        EVP_MD_CTX *context, unsigned char *signature, size_t *signature_size, const unsigned char *data, size_t size)
    EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **key, const unsigned char **data, long size)
    EVP_PKEY *d2i_PUBKEY(EVP_PKEY **key, const unsigned char **data, long size)
    void ERR_clear_error()


cdef EVP_PKEY *opened(bytes der, int private) except NULL:
    """To be freed by the caller. Raises ValueError."""
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(der)
    cdef long size = <long> PyBytes_GET_SIZE(der)
    cdef EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &data, size) if private else d2i_PUBKEY(NULL, &data, size)
    ERR_clear_error()  # the queue is the thread's: `ssl` would take what is left there for its own
    if key == NULL or not kb_is_rsa(key):
        EVP_PKEY_free(key)
        raise ValueError("not an RSA key")
    return key


def size(bytes key not None, /):
    """Bytes of a block, and of a signature, of a public key. Raises ValueError."""
    cdef EVP_PKEY *public = opened(key, 0)
    cdef int found = EVP_PKEY_get_size(public)
    EVP_PKEY_free(public)
    return found


def private_size(bytes key not None, /):
    """Likewise, of a private key. Raises ValueError."""
    cdef EVP_PKEY *private = opened(key, 1)
    cdef int found = EVP_PKEY_get_size(private)
    EVP_PKEY_free(private)
    return found


def encrypt(bytes key not None, bytes data not None, /):
    """The data in blocks of OAEP with SHA-1, for the owner of that public key. Raises ValueError for what is no key, or one that is too small."""
    return blocks(key, data, 1)


def decrypt(bytes key not None, bytes data not None, /):
    """What was encrypted for the owner of that private key. Raises ValueError for all else."""
    return blocks(key, data, 0)


cdef bytes blocks(bytes key, bytes data, int forth):
    cdef EVP_PKEY *opened_key = opened(key, not forth)
    cdef int whole = EVP_PKEY_get_size(opened_key)
    cdef int step = whole - 42 if forth else whole
    cdef EVP_PKEY_CTX *context = kb_oaep(opened_key, forth)
    cdef const unsigned char *source = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data), at = 0
    cdef size_t written, part
    cdef int done = 1
    cdef unsigned char[2048] out
    found = []
    try:
        if context == NULL or step < 1 or whole > 2048:
            raise ValueError("a key of that size is of no use")
        while at < length:
            part = <size_t> min(<Py_ssize_t> step, length - at)
            written = 2048
            with nogil:
                if forth:
                    done = EVP_PKEY_encrypt(context, out, &written, source + at, part)
                else:
                    done = EVP_PKEY_decrypt(context, out, &written, source + at, part)
            if done != 1:
                raise ValueError("this was not encrypted for this key")
            found.append(PyBytes_FromStringAndSize(<char *> out, <Py_ssize_t> written))
            at += <Py_ssize_t> part
        return b"".join(found)
    finally:
        EVP_PKEY_CTX_free(context)
        EVP_PKEY_free(opened_key)
        ERR_clear_error()


def sign(bytes key not None, bytes data not None, /):
    """The signature of the data by that private key: PKCS #1 v1.5 with SHA-256. Raises ValueError."""
    cdef EVP_PKEY *private = opened(key, 1)
    cdef EVP_MD_CTX *context = EVP_MD_CTX_new()
    cdef unsigned char[2048] out
    cdef size_t written = 2048, length = <size_t> PyBytes_GET_SIZE(data)
    cdef const unsigned char *source = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef int done = 0
    if context != NULL and EVP_PKEY_get_size(private) <= 2048:
        with nogil:
            if EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, private) == 1:
                done = EVP_DigestSign(context, out, &written, source, length)
    EVP_MD_CTX_free(context)
    EVP_PKEY_free(private)
    ERR_clear_error()
    if done != 1:
        raise ValueError("libcrypto could not sign")
    return PyBytes_FromStringAndSize(<char *> out, <Py_ssize_t> written)


def cbc(bytes key not None, bytes iv not None, bytes data not None, bint encrypt, /):
    """AES-256-CBC without padding. Raises ValueError for sizes that do not fit."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
    if PyBytes_GET_SIZE(key) != 32 or PyBytes_GET_SIZE(iv) != 16 or length % 16 or length > 1 << 30:
        raise ValueError("a key of 32 bytes, a vector of 16 and whole blocks are required")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
    if not kb_cbc(
        <const unsigned char *> PyBytes_AS_STRING(key), <const unsigned char *> PyBytes_AS_STRING(iv),
        <const unsigned char *> PyBytes_AS_STRING(data), <int> length, <unsigned char *> PyBytes_AS_STRING(out), encrypt):
        ERR_clear_error()
        raise ValueError("libcrypto could not encrypt")
    return out


def uri(bytes certificate not None, /):
    """The first URI among the other names of a certificate (DER); "" where there is none."""
    cdef char[512] out
    cdef int found = kb_uri(<const unsigned char *> PyBytes_AS_STRING(certificate), <long> PyBytes_GET_SIZE(certificate), out, 512)
    ERR_clear_error()
    return PyBytes_FromStringAndSize(out, found).decode("utf-8", "replace") if found >= 0 else ""


def public_key(bytes certificate not None, /):
    """The SubjectPublicKeyInfo of a certificate, both in DER. Raises ValueError for what is none."""
    cdef unsigned char *out = NULL
    cdef int found = kb_public(<const unsigned char *> PyBytes_AS_STRING(certificate), <long> PyBytes_GET_SIZE(certificate), &out)
    ERR_clear_error()
    if found <= 0:
        raise ValueError("not a certificate")
    try:
        return PyBytes_FromStringAndSize(<char *> out, found)
    finally:
        kb_free(out)
