# cython: language_level=3
"""Signatures of others, verified with the libcrypto that `ssl` and the data plane have loaded anyway."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    const EVP_MD *EVP_get_digestbyname(const char *name)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *context)
    void EVP_PKEY_free(EVP_PKEY *key)
    int EVP_DigestVerifyInit(EVP_MD_CTX *context, void **parameters, const EVP_MD *digest, void *engine, EVP_PKEY *key)
    int EVP_DigestVerify(
        EVP_MD_CTX *context, const unsigned char *signature, size_t signature_size, const unsigned char *data, size_t size)


cdef extern from "<openssl/x509.h>" nogil:
    EVP_PKEY *d2i_PUBKEY(EVP_PKEY **key, const unsigned char **data, long size)


cdef extern from "<openssl/err.h>" nogil:
    void ERR_clear_error()


def is_signed(bytes key not None, bytes digest not None, bytes signature not None, bytes data not None, /):
    """Whether the signature of `data` is by that key, a SubjectPublicKeyInfo in DER: RSA with PKCS#1 v1.5, ECDSA with its signature in
    DER, or Ed25519. `digest` is SHA256, SHA384 or SHA512, and empty for Ed25519, which has its own. Raises ValueError for what is no such key or digest."""
    cdef const unsigned char *der = <const unsigned char *> PyBytes_AS_STRING(key)
    cdef const unsigned char *c_signature = <const unsigned char *> PyBytes_AS_STRING(signature)
    cdef const unsigned char *c_data = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef size_t signature_size = <size_t> PyBytes_GET_SIZE(signature), size = <size_t> PyBytes_GET_SIZE(data)
    cdef const EVP_MD *algorithm = EVP_get_digestbyname(PyBytes_AS_STRING(digest))
    cdef EVP_PKEY *public = d2i_PUBKEY(NULL, &der, <long> PyBytes_GET_SIZE(key))
    cdef EVP_MD_CTX *context = EVP_MD_CTX_new()
    cdef int done = -1
    if public != NULL and context != NULL and (algorithm != NULL or not PyBytes_GET_SIZE(digest)):
        with nogil:
            if EVP_DigestVerifyInit(context, NULL, algorithm, NULL, public) == 1:
                done = EVP_DigestVerify(context, c_signature, signature_size, c_data, size) == 1
    EVP_MD_CTX_free(context)
    EVP_PKEY_free(public)
    ERR_clear_error()  # the queue is the thread's: `ssl` would take what is left there for its own
    if done < 0:
        raise ValueError("not a key, or no such digest")
    return done == 1
